"""Which GETs start walks: those of scripts and of people, and not those of other sites' pages and of prefetchers."""

import pytest

from momalisa_api.store.owners import add_key
from momalisa_api.store.schema import opened
from tests.support.factories import client_at, ended, running

pytestmark = pytest.mark.anyio
URL = "/api/v1/walk?start=a&end=b&frames=2"
JSON = {"Accept": "application/json"}
HERE, ELSEWHERE = "127.0.0.1", "198.51.100.9"
IMAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"}
PREFETCH = {"Sec-Purpose": "prefetch", "Sec-Fetch-Site": "same-origin"}
PRERENDER = {"Sec-Purpose": "prefetch;prerender", "Sec-Fetch-Site": "none"}
# Their values are put in by the test.
COOKIE, KEY = {"Cookie": ""}, {"Authorization": ""}
BOTH = COOKIE | KEY


# The address and the headers of a GET, and the values of MOMALISA_OPEN_GET with which it starts a walk.
ALWAYS, OPEN, NEVER = {"auto", "on", "off"}, {"on"}, set[str]()
CASES = (
    (HERE, {}, {"auto", "on"}),
    ("::1", {}, {"auto", "on"}),
    ("::ffff:127.0.0.1", {}, {"auto", "on"}),
    (ELSEWHERE, {}, OPEN),
    (HERE, IMAGE, OPEN),
    (HERE, {"Sec-Fetch-Site": "same-site"}, OPEN),
    (ELSEWHERE, {"Sec-Fetch-Site": "same-origin"}, ALWAYS),
    (ELSEWHERE, {"Sec-Fetch-Site": "none"}, ALWAYS),
    (ELSEWHERE, COOKIE, ALWAYS),
    (HERE, COOKIE | {"Sec-Fetch-Site": "same-site"}, OPEN),
    (ELSEWHERE, COOKIE | IMAGE, OPEN),
    (ELSEWHERE, COOKIE | {"Sec-Fetch-Site": "same-origin"}, ALWAYS),
    (ELSEWHERE, KEY, ALWAYS),
    (ELSEWHERE, KEY | {"Sec-Fetch-Site": "cross-site"}, ALWAYS),
    (HERE, PREFETCH, NEVER),
    (HERE, PRERENDER, NEVER),
    (HERE, {"Purpose": "prefetch"}, NEVER),
    (HERE, {"X-Moz": "prefetch"}, NEVER),
    (ELSEWHERE, COOKIE | PREFETCH, NEVER),
)


@pytest.mark.parametrize("mode", ["auto", "on", "off"])
async def test_a_get_starts_a_walk_only_for_scripts_and_people(settings, fleet, mode):
    """A page anywhere could otherwise make its visitors' browsers start walks."""
    fleet.add(ready=False)
    changed = settings.model_copy(update={"open_get": mode})
    async with running(changed, fleet) as client, opened(settings.database_url) as engine:
        key = f"Bearer {await add_key(engine, 'robot')}"
        cookie = (await client.post("/api/v1/pictures", content=b"")).headers["set-cookie"].partition(";")[0]
        for seed, (address, headers, modes) in enumerate(CASES):
            case, url = f"{address} {headers}", f"{URL}&seed={seed}"
            sent = headers | {name: {"Cookie": cookie, "Authorization": key}[name] for name in headers if name in BOTH}
            async with client_at(client, address) as caller:
                found = await caller.get(url, headers=JSON | sent)
            assert found.status_code == (202 if mode in modes else 403), f"{case}: {found.text}"
            if mode not in modes:
                assert found.json()["type"] == "urn:momalisa:problem:get-starts-nothing"
                assert "POST /api/v1/walks" in found.json()["detail"]
                assert (await client.head(url)).status_code == 404, case


async def test_a_walk_that_exists_is_served_to_pages_of_other_sites(settings, fleet):
    """Blogs show films by this URL, as before: an image waits for the film and gets it."""
    async with running(settings, fleet) as client, client_at(client, ELSEWHERE) as caller:
        walk = (await client.post("/api/v1/walks", json={"start": "a", "end": "b", "frames": 2})).json()
        await ended(client, walk)
        found = await caller.get(URL, headers=IMAGE)
    assert (found.status_code, found.headers["content-type"]) == (200, "image/gif")
