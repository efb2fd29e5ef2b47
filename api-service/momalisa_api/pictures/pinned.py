"""Requests to public addresses only: each connection goes to an address that was checked, without a second lookup."""

import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Final

import anyio
import anyio.to_thread
import httpx

from momalisa_api.pictures.addresses import is_public
from momalisa_api.problems import AddressRefused

STEP_S: Final = 10.0
MAX_ADDRESSES: Final = 4
RESOLVING: Final = 4

Resolve = Callable[[str, int], Awaitable[list[str]]]


class PinnedClient:
    """Sends requests to visitors' URLs (no server-side request forgery)."""

    def __init__(
        self,
        ports: frozenset[int],
        resolve: Resolve | None = None,
        allowed: Callable[[str], bool] = is_public,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """ports: that URLs may have; resolve: finds the addresses of a name; allowed: whether one may be used;
        tls: which certificates are valid, by default those that httpx trusts.
        """
        self.ports = ports
        self._resolve = resolve or Resolver().resolve
        self._allowed = allowed
        # Made once: reading the authorities' certificates takes tens of milliseconds.
        self._tls = tls or httpx.create_ssl_context(trust_env=False)

    async def addresses(self, where: httpx.URL) -> list[str]:
        """The addresses of the URL's host, of which all are public. Raises AddressRefused, OSError, UnicodeError."""
        found = await self._resolve(where.raw_host.decode("ascii"), port_of(where))
        if not found or not all(map(self._allowed, found)):
            raise AddressRefused("The address is not on the public internet.")
        return found[:MAX_ADDRESSES]

    def client(self, headers: Mapping[str, str]) -> httpx.AsyncClient:
        """A client for one URL: it has no cookies, no credentials and no proxies, and shares no connection."""
        return httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=STEP_S, headers=headers)


class Resolver:
    """Resolves host names with the system's resolver, in threads of its own: a slow one must not hold up others."""

    def __init__(self) -> None:
        self._threads = anyio.CapacityLimiter(RESOLVING)

    async def resolve(self, host: str, port: int) -> list[str]:
        """The IP addresses of a host. Raises OSError, UnicodeError."""

        def look_up() -> list[str]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(address[0]) for *_, address in found))

        return await anyio.to_thread.run_sync(look_up, limiter=self._threads, abandon_on_cancel=True)


async def first_answer(
    client: httpx.AsyncClient,
    where: httpx.URL,
    addresses: list[str],
    *,
    method: str = "GET",
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """The response of the first address that accepts a connection; its body is not read, and it must be closed.

    Raises httpx.ConnectError if none accepts one, httpx.HTTPError, httpx.InvalidURL, ValueError.
    """
    for address in addresses:
        # The certificate must be that of the name; only the connection goes to the address.
        extensions = {"sni_hostname": where.raw_host.decode("ascii")} if is_name(where.host) else {}
        host = f"[{address}]" if ":" in address else address
        request = client.build_request(
            method,
            where.copy_with(host=host, fragment=None),
            content=content,
            headers={**(headers or {}), "Host": where.netloc.decode("ascii")},
            extensions=extensions,
        )
        try:
            return await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            continue
    raise httpx.ConnectError("no address accepts a connection")


def check_form(where: httpx.URL, ports: frozenset[int]) -> None:
    """Raises AddressRefused, with a sentence, if the form of a URL is not allowed. Nothing is looked up."""
    if where.scheme not in ("http", "https") or not where.host or "%" in where.host:
        raise AddressRefused("Only http and https addresses are allowed. Send one that begins with https://.")
    if where.userinfo:
        raise AddressRefused("Addresses with a user name or password are not allowed. Send one without.")
    if port_of(where) not in ports:
        raise AddressRefused(f"Port {port_of(where)} is not allowed. Use one of {', '.join(map(str, sorted(ports)))}.")


def port_of(where: httpx.URL) -> int:
    """The port of an http or https URL."""
    return {"http": 80, "https": 443}[where.scheme] if where.port is None else where.port


def is_name(host: str) -> bool:
    """Whether a URL's host is a name, and not an IP address."""
    try:
        ip_address(host)
    except ValueError:
        return True
    return False
