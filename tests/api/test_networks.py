"""The networks of callers: which addresses count as one, and that none is told."""

import httpx
import pytest

from momalisa_api.store.networks import Networks
from tests.support.factories import FakeFleet
from tests.support.served_api import served_api

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


@pytest.mark.parametrize(
    ("trusted", "statuses"),
    [("127.0.0.1,10.0.0.0/8", [201, 429, 429, 429, 201, 201]), ("192.0.2.1", [201, 429, 429, 429, 429, 429])],
)
def test_trusted_proxies_alone_tell_the_callers_address(tmp_path, trusted, statuses):
    """What a client claims is before what proxies add to it, and must not make it another caller."""
    fleet = FakeFleet()
    fleet.add(ready=False)
    limits = {"max_walks_per_owner": 1, "owners_per_network": 1, "trusted_proxies": trusted}
    told = (
        "203.0.113.7",
        "192.0.2.8, 203.0.113.7",
        "203.0.113.7, 10.1.2.3",
        "10.9.9.9, 192.0.2.9, [::ffff:203.0.113.7]:4711, 10.1.2.3",
        "203.0.113.7, 203.0.113.8",
        "2001:db8::7",
    )
    with served_api(tmp_path, fleet, **limits) as url:
        seen = [
            httpx.post(
                f"{url}/api/v1/walks",
                json={"start": "a", "end": "b", "frames": 2, "seed": seed},
                headers={"X-Forwarded-For": forwarded},
                trust_env=False,
            ).status_code
            for seed, forwarded in enumerate(told)
        ]
    assert seen == statuses
