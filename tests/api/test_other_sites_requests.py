"""Who may speak for a browser: pages of this server, and proxies that the operator has named."""

from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest

from momalisa_api.settings import Settings
from momalisa_api.web.sign_in_proxy import ProxyUsers
from tests.support.factories import FakeFleet, running
from tests.support.served_api import served_api

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 2}


OTHERS: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    # Browsers send remembered passwords along, and proxies exchange them for tokens.
    {"Sec-Fetch-Site": "cross-site", "Authorization": "Basic YTpi"},
    {"Sec-Fetch-Site": "cross-site", "Authorization": "Bearer token"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://api"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://api.evil.example"},
    {"Origin": "http://api:8080"},
    {"Origin": "null"},
]
OWN: list[dict[str, str]] = [
    {},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://api"},
    {"Sec-Fetch-Site": "none"},
    # TLS can end at a proxy.
    {"Origin": "https://api"},
]


async def test_pages_of_other_sites_change_nothing(settings: Settings, fleet: FakeFleet):
    """A form can post a file to any server, with the cookies of a proxy's sign-in."""
    form = {"files": {"picture": b"file"}}
    async with running(settings, fleet) as client:
        for headers in OTHERS:
            for path, body in (("/api/v1/pictures", form), ("/api/v1/sign-out", {})):
                answer = await client.post(path, headers=headers, **body)
                assert (answer.status_code, answer.json()["type"]) == (403, "urn:momalisa:problem:cross-site-request")
            assert (await client.get("/api/v1/walks", headers=headers)).status_code != 403


async def test_own_pages_and_scripts_are_no_other_site(settings: Settings, fleet: FakeFleet):
    """Scripts send neither header."""
    async with running(settings, fleet) as client:
        for headers in OWN:
            assert (await client.post("/api/v1/walks", json=REQUEST, headers=headers)).status_code in (200, 201)


@pytest.mark.parametrize(
    ("peer", "named"),
    [
        ("10.0.0.5", True),
        ("::ffff:10.0.0.5", True),
        ("2001:db8::7", True),
        ("10.0.1.5", False),
        ("2001:db9::7", False),
        ("unix", False),
        (None, False),
    ],
)
def test_a_header_counts_only_from_the_proxies_of_the_settings(peer: str | None, named: bool):
    """By the address of the connection."""
    users = ProxyUsers(
        [ip_network("10.0.0.0/24"), ip_network("2001:db8::/64")], "X-Forwarded-User", "X-Forwarded-Email"
    )
    found = users.read({"X-Forwarded-User": "ada", "X-Forwarded-Email": "ada@example.com"}, peer)
    assert (found is not None) == named
    assert found is None or (found.name, found.email) == ("ada", "ada@example.com")
    assert users.read({"X-Forwarded-Email": "ada@example.com"}, peer) is None


@pytest.mark.parametrize("proxies", ["127.0.0.0/8", "10.0.0.0/8"])
def test_forwarded_addresses_make_nobody_a_proxy(tmp_path: Path, proxies: str):
    """Through the real server: what X-Forwarded-For says is anybody's invention, also where it is trusted otherwise."""
    fleet = FakeFleet()
    fleet.add()
    with served_api(tmp_path, fleet, sign_in="required", sign_in_proxies=proxies) as url:
        headers = {"X-Forwarded-User": "ada", "X-Forwarded-For": "10.0.0.5", "X-Forwarded-Proto": "https"}
        me = httpx.get(f"{url}/api/v1/me", headers=headers).json()
        assert me["kind"] == ("user" if proxies.startswith("127") else "anonymous")
        created = httpx.post(f"{url}/api/v1/walks", json=REQUEST, headers=headers)
        assert created.status_code == (201 if proxies.startswith("127") else 401)
