"""Which network addresses are public: those that a visitor's URL may lead to."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

# Beyond what `is_global` excludes in every supported version of Python.
NOT_PUBLIC: Final = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT; one cloud has its metadata there
        "168.63.129.16/32",  # Azure's host, with its metadata
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        "::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",  # Teredo, among others
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fec0::/10",
    )
)
# IPv6 addresses that contain the IPv4 address they lead to, and the bit where it begins: RFC 6052 and RFC 3056.
_NAT64: Final = ip_network("64:ff9b::/96")
_6TO4: Final = ip_network("2002::/16")


def is_public(address: str) -> bool:
    """Whether an IP address, as text, belongs to the public internet, with the IPv4 address in it if there is one."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    while isinstance(found, IPv6Address) and (inner := _inner(found)):
        found = inner
    if found.is_multicast or found.is_private or found.is_link_local or found.is_reserved or not found.is_global:
        return False
    return not any(found.version == network.version and found in network for network in NOT_PUBLIC)


def _inner(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.sixtofour if address in _6TO4 else None
