"""The networks of callers: which addresses count as one, and that none is told."""

import pytest

from momalisa_api.store.networks import Networks

NETWORKS = Networks("a secret")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("203.0.113.7", "::ffff:203.0.113.7", True),
        ("203.0.113.7", "2002:cb00:7107::1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("no address", "another", True),
        ("no address", None, True),
    ],
)
def test_an_ipv4_address_or_an_ipv6_64_is_a_network(one, other, same):
    """A customer has millions of IPv6 addresses: each of them must not be another caller."""
    assert (NETWORKS.of(one) == NETWORKS.of(other)) == same


def test_a_network_cannot_be_computed_without_the_secret():
    """There are few enough IPv4 addresses to hash them all."""
    assert NETWORKS.of("203.0.113.7") != Networks("another secret").of("203.0.113.7")
    assert len(NETWORKS.of("203.0.113.7")) == 43
