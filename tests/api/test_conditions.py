"""Conditional requests of stored files (RFC 9110, section 13): no client joins parts of different files."""

import os
from contextlib import aclosing
from pathlib import Path

import pytest

from momalisa_api.app import open_bucket
from momalisa_api.store.erasures import Erasures
from momalisa_api.store.schema import opened
from tests.support.factories import ended, painted, running

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 5, "spacing": "uniform"}
NAMES = ("walk.gif", "walk.mp4", "poster.webp", "frames/2.png", "frames.zip")
PART = {"Range": "bytes=10-19"}
# Python's own reader of dates raises OverflowError for these.
NO_DATES = ("Thu, 01 Jan 2026 00:00:00 +99999999999", "Thu, 01 Jan 99999999999999999999 00:00:00 GMT")


async def test_if_range_gives_the_part_only_of_the_file_that_the_client_has(settings, fleet):
    """By ETag or by date; for any other the answer is the whole file."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        for name in NAMES:
            url = f"{walk['url']}/{name}"
            whole = await client.get(url)
            etag, modified = whole.headers["etag"], whole.headers["last-modified"]
            for current in (etag, modified):
                part = await client.get(url, headers={**PART, "If-Range": current})
                assert (part.status_code, part.content) == (206, whole.content[10:20])
            others = ('"another"', f"W/{etag}", "Fri, 01 Jan 2100 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "x")
            for other in (*others, *NO_DATES):
                answer = await client.get(url, headers={**PART, "If-Range": other})
                assert (answer.status_code, answer.content) == (200, whole.content), other
            beyond = {"Range": "bytes=99999999-", "If-Range": '"another"'}
            assert (await client.get(url, headers=beyond)).status_code == 200


async def test_a_current_copy_is_not_sent_again(settings, fleet):
    """By ETag, also a weak one, or else by date."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        for name in NAMES:
            url = f"{walk['url']}/{name}"
            whole = await client.get(url)
            etag, modified = whole.headers["etag"], whole.headers["last-modified"]
            for headers, status in (
                ({"If-None-Match": etag}, 304),
                ({"If-None-Match": f'"another", W/{etag}'}, 304),
                ({"If-None-Match": "*"}, 304),
                ({"If-None-Match": '"another"'}, 200),
                ({"If-Modified-Since": modified}, 304),
                ({"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200),
                ({"If-Modified-Since": "yesterday"}, 200),
                *(({"If-Modified-Since": no_date}, 200) for no_date in NO_DATES),
                ({"If-Modified-Since": modified, "If-None-Match": '"another"'}, 200),
            ):
                assert (await client.get(url, headers=headers)).status_code == status, headers


async def test_a_walk_that_was_purged_and_rendered_elsewhere_has_other_etags(settings, fleet):
    """The files have the same names and other bytes: a client that has a part of the old ones gets the whole."""
    replica = fleet.add()
    old = {}
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        for name in NAMES:
            old[name] = await client.get(f"{walk['url']}/{name}")
        async with opened(settings.database_url) as engine, aclosing(open_bucket(settings)) as bucket:
            await Erasures(engine, bucket).purge(walk["id"])
        replica.paint = lambda recipe, fraction: painted({**recipe, "seed": 99}, fraction)
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        for name in NAMES:
            url = f"{walk['url']}/{name}"
            for headers in (
                {**PART, "If-Range": old[name].headers["etag"]},
                {"If-None-Match": old[name].headers["etag"]},
            ):
                answer = await client.get(url, headers=headers)
                assert answer.status_code == 200
                assert answer.content != old[name].content


def _read_everything(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, ns=(0, path.stat().st_mtime_ns))


async def test_the_same_file_has_the_same_etag_in_every_process(settings, fleet):
    """A download may continue at another web process. The time of a read does not count."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        first = {name: (await client.get(f"{walk['url']}/{name}")).headers["etag"] for name in NAMES}
    _read_everything(Path(settings.bucket))
    async with running(settings, fleet) as client:
        assert first == {name: (await client.get(f"{walk['url']}/{name}")).headers["etag"] for name in NAMES}
    assert len(set(first.values())) == len(NAMES)
