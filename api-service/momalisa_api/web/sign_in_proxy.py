"""Users that a proxy names in a header: only a proxy of the settings is believed, by its own address."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from momalisa_api.web.identity import MAX_NAME, Identity, email_fits, user_of
from momalisa_api.web.sign_in_tokens import MAX_SUBJECT

# Stands for the issuer of users that a proxy names. No issuer has this name, as theirs are URLs.
PROXY: Final = "proxy"
# Key of the ASGI scope: the address that has connected to this process.
PEER: Final = "momalisa.peer"


class DirectPeer:
    """Keeps the address of the connection, before another middleware replaces it by that in X-Forwarded-For."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        await self._app({**scope, PEER: client[0] if client else None}, receive, send)


class ProxyUsers:
    """Reads the user from the headers of some proxies. These must remove the same headers of their own clients."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network], user_header: str, email_header: str) -> None:
        self._networks = networks
        self._user_header = user_header
        self._email_header = email_header

    def read(self, headers: Mapping[str, str], peer: str | None) -> Identity | None:
        """The user that a request's headers name; None without a user, and from any other peer."""
        user, email = headers.get(self._user_header, ""), headers.get(self._email_header)
        if not 0 < len(user) <= MAX_SUBJECT or not self._is_proxy(peer):
            return None
        return Identity(user_of(PROXY, user), PROXY, user[:MAX_NAME], email if email_fits(email) else None)

    def _is_proxy(self, peer: str | None) -> bool:
        try:
            address = ip_address(peer or "")
        except ValueError:
            return False
        # An IPv4 peer of a socket that listens on both kinds of address.
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)
