"""Fetches a file from a visitor's URL, from public addresses only (no server-side request forgery)."""

import socket
import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final

import anyio
import anyio.to_thread
import httpx

from momalisa_api import __version__
from momalisa_api.pictures.addresses import is_public
from momalisa_api.problems import AddressRefused, FetchFailed

FETCH_S: Final = 30.0
STEP_S: Final = 10.0
MAX_REDIRECTS: Final = 3
MAX_ADDRESSES: Final = 4
RESOLVING: Final = 4
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
FETCH_HEADERS: Final = {
    "User-Agent": f"MoMALisa/{__version__}",
    "Accept": "image/avif,image/webp,image/png,image/jpeg,image/gif",
    # The size limit counts what arrives, so nothing may grow here.
    "Accept-Encoding": "identity",
}
ELSEWHERE: Final = "Upload the picture instead."

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Downloads:
    """Fetches files. Each connection goes to an address that was checked: the name is not resolved again for it."""

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
        self._ports = ports
        self._resolve = resolve or Resolver().resolve
        self._allowed = allowed
        # Made once: reading the authorities' certificates takes tens of milliseconds.
        self._tls = tls or httpx.create_ssl_context(trust_env=False)

    async def fetch(self, url: str, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Fetch the bytes behind a URL within `FETCH_S` seconds. write: gets each chunk, and limits their number.

        Raises AddressRefused before a connection is made, FetchFailed, and what `write` raises.
        """
        try:
            with anyio.fail_after(FETCH_S):
                await self._follow(self._checked(url), write)
        except TimeoutError:
            raise FetchFailed(f"The picture did not arrive within {FETCH_S:.0f} seconds. {ELSEWHERE}") from None

    async def _follow(self, where: httpx.URL, write: Callable[[bytes], Awaitable[None]]) -> None:
        for _ in range(MAX_REDIRECTS + 1):
            addresses = await self._addresses(where)
            # A client for each URL: it has no cookies, no credentials and no proxies, and shares no connection.
            async with httpx.AsyncClient(
                verify=self._tls, trust_env=False, timeout=STEP_S, headers=FETCH_HEADERS
            ) as client:
                response = await _first_answer(client, where, addresses)
                try:
                    if response.status_code not in REDIRECTS:
                        await _copy(response, write)
                        return
                finally:
                    await response.aclose()
            where = self._checked(_location(response), where)
        raise FetchFailed(f"The address redirects more than {MAX_REDIRECTS} times. {ELSEWHERE}")

    def _checked(self, url: str, base: httpx.URL | None = None) -> httpx.URL:
        """The URL, if its form is allowed. base: of one that may be relative. Raises AddressRefused."""
        try:
            where = base.join(url) if base else httpx.URL(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise AddressRefused("The address is not valid. Send one like https://example.com/cat.jpg.") from error
        if not self._ports:
            raise AddressRefused(f"This deployment fetches no pictures. {ELSEWHERE}")
        if where.scheme not in ("http", "https") or not where.host or "%" in where.host:
            raise AddressRefused(
                "Only http and https addresses are fetched. Send one like https://example.com/cat.jpg."
            )
        if where.userinfo:
            raise AddressRefused("Addresses with a user name or password are not fetched. Send one without.")
        if _port(where) not in self._ports:
            raise AddressRefused(f"Port {_port(where)} is not allowed. Use one of {_listed(self._ports)}.")
        return where

    async def _addresses(self, where: httpx.URL) -> list[str]:
        """The addresses of the URL's host. Raises AddressRefused if one of them is not public, FetchFailed."""
        try:
            found = await self._resolve(where.raw_host.decode("ascii"), _port(where))
        except (OSError, UnicodeError) as error:
            raise FetchFailed(f"The host name was not found. Correct the address. {ELSEWHERE}") from error
        if not found or not all(map(self._allowed, found)):
            raise AddressRefused(f"The address is not on the public internet. {ELSEWHERE}")
        return found[:MAX_ADDRESSES]


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


async def _first_answer(client: httpx.AsyncClient, where: httpx.URL, addresses: list[str]) -> httpx.Response:
    """The response of the first address that accepts a connection. Raises FetchFailed."""
    for address in addresses:
        # The certificate must be that of the name; only the connection goes to the address.
        extensions = {"sni_hostname": where.raw_host.decode("ascii")} if _is_name(where.host) else {}
        host = f"[{address}]" if ":" in address else address
        request = client.build_request(
            "GET",
            where.copy_with(host=host, fragment=None),
            headers={"Host": where.netloc.decode("ascii")},
            extensions=extensions,
        )
        try:
            return await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            continue
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise FetchFailed(f"The address does not answer. Try again later. {ELSEWHERE}") from error
    raise FetchFailed(f"The address does not accept connections. Correct it, or try again later. {ELSEWHERE}")


async def _copy(response: httpx.Response, write: Callable[[bytes], Awaitable[None]]) -> None:
    """Write the bytes of a successful response, as they were sent. Raises FetchFailed."""
    if response.status_code != HTTPStatus.OK:
        raise FetchFailed(f"The address answers with status {response.status_code}. Correct it. {ELSEWHERE}")
    try:
        async for chunk in response.aiter_raw():
            await write(chunk)
    except httpx.HTTPError as error:
        raise FetchFailed(f"The connection broke before the end. Try again. {ELSEWHERE}") from error


def _location(response: httpx.Response) -> str:
    location = response.headers.get("location")
    if not location:
        raise FetchFailed(f"The address redirects to nowhere. Correct it. {ELSEWHERE}")
    return str(location)


def _port(where: httpx.URL) -> int:
    return {"http": 80, "https": 443}[where.scheme] if where.port is None else where.port


def _is_name(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


def _listed(ports: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(ports)))
