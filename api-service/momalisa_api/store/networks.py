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


def _network(host: str | None) -> str:
    """The IPv4 address or the /64 of an IPv6 address. IPv4 addresses inside IPv6 ones count as what they are."""
    try:
        address: IPv4Address | IPv6Address = ip_address(host or "")
    except ValueError:
        return "unknown"
    if isinstance(address, IPv4Address):
        return str(address)
    inner = address.ipv4_mapped or address.sixtofour
    return str(inner or ip_network((int(address), IPV6_PREFIX), strict=False))
