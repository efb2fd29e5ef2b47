"""The networks that callers come from, as keyed hashes: no address is ever stored."""

import hashlib
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from itsdangerous import Signer

# One customer has at least a /64 of IPv6 (RFC 6177), and can use any address in it.
IPV6_PREFIX = 64


class Networks:
    """Identifies networks, in the same way in every process of a deployment."""

    def __init__(self, secret: str) -> None:
        self._signer = Signer(secret, salt="momalisa network", digest_method=hashlib.sha256)

    def of(self, host: str | None) -> str:
        """The keyed hash of an address's network: 43 characters. What is no address is in one network of its own."""
        return self._signer.get_signature(_network(host)).decode()


def address_of(host: str | None) -> IPv4Address | IPv6Address | None:
    """The address of a host; an IPv4 address that is inside an IPv6 one is taken out. None for what is no address."""
    try:
        address: IPv4Address | IPv6Address = ip_address(host or "")
    except ValueError:
        return None
    return address if isinstance(address, IPv4Address) else address.ipv4_mapped or address.sixtofour or address


def _network(host: str | None) -> str:
    address = address_of(host)
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address), IPV6_PREFIX), strict=False))
    return str(address or "unknown")
