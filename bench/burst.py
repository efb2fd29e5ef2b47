"""A burst: OWNERS visitors upload a picture each and request it restyled, all at the same moment, on this machine.

    python bench/burst.py [OWNERS]

One API process with the default limits, on PostgreSQL, and REPLICAS replicas of a style model that sleep SHARD_S for
each shard. The visitors share NETWORKS network addresses, come without a cookie, keep the one that they get, and do
what an answer tells them: with 429 or 503, they come again after its Retry-After. Each looks at its walk until it is
done. It ends with an error if a request gets any other answer, a refusal without Retry-After, a walk without a place in
the queue while it waits, or a walk that is lost. Times are ratios to one visitor alone on the same, idle deployment.
PostgreSQL runs without fsync.
"""

import asyncio
import io
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
from PIL import Image
from rig.connection import percentile
from rig.served import database, served
from rig.sleepers import process_of

from tests.support.factories import CARD

OWNERS: Final = 1000
NETWORKS, REPLICAS, SHARD_S, FRAMES, SIZE_PX = 100, 4, 0.05, 3, 32
# Browsers keep a walk's page up to date by events; a look every few seconds costs this bench less.
LOOK_S: Final = 3.0
STYLES: Final = {**CARD, "engine": "style", "styles": [{"name": "mosaic", "title": "Mosaic"}]}
DEFAULTS: Final = {
    "MOMALISA_MAX_QUEUED_WALKS": "1000",
    "MOMALISA_MAX_WALKS_PER_OWNER": "50",
    "MOMALISA_FRAMES_PER_OWNER_PER_DAY": "20000",
    "MOMALISA_OWNERS_PER_NETWORK": "5",
}


@dataclass
class Burst:
    """What the visitors saw. answers: by call and status; places: the first in the queue that each saw; times from a
    visitor's arrival.
    """

    answers: Counter[str] = field(default_factory=Counter)
    places: dict[int, int] = field(default_factory=dict)
    accepted_s: list[float] = field(default_factory=list)
    done_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Visitor:
    """One of many visitors: its cookie, its network, and what it does."""

    def __init__(self, client: httpx.AsyncClient, number: int, burst: Burst) -> None:
        self._client, self._number, self._burst = client, number, burst
        self._headers = {"X-Forwarded-For": f"203.0.113.{number % NETWORKS}"}

    async def visit(self) -> None:
        """Upload, request, look at the walk until it is done."""
        began = time.perf_counter()
        picture = await self._told("upload", "/api/v1/pictures", content=picture_of(self._number))
        request = {"kind": "restyle", "picture": {"picture": picture["id"]}, "style": "mosaic"}
        walk = await self._told("request", "/api/v1/walks", json={**request, "frames": FRAMES, "size": SIZE_PX})
        self._burst.accepted_s.append(time.perf_counter() - began)
        while walk["state"] not in ("done", "failed", "cancelled"):
            self._look_at(walk)
            await asyncio.sleep(LOOK_S)
            walk = await self._told("look", walk["url"], "GET")
        if walk["state"] != "done":
            self._burst.faults.append(f"{walk['url']} {walk['state']}: {walk['error']}")
        self._burst.done_s.append(time.perf_counter() - began)

    def _look_at(self, walk: dict[str, Any]) -> None:
        if walk["queue_position"]:
            self._burst.places.setdefault(self._number, walk["queue_position"])
        elif walk["state"] == "waiting":
            self._burst.faults.append(f"{walk['url']} waits without a place")

    async def _told(self, what: str, path: str, method: str = "POST", **body: Any) -> dict[str, Any]:
        """Send a request until it is accepted, each time as late as the answer before said."""
        while True:
            answer = await self._client.request(method, path, headers=self._headers, **body)
            why = "" if answer.is_success else f" {answer.json()['type'].rpartition(':')[2]}"
            self._burst.answers[f"{what}: {answer.status_code}{why}"] += 1
            if cookie := answer.headers.get("set-cookie"):
                self._headers["Cookie"] = cookie.partition(";")[0]
            if answer.is_success:
                created: dict[str, Any] = answer.json()
                return created
            if answer.status_code not in (429, 503) or "retry-after" not in answer.headers:
                raise SystemExit(f"{what}: {answer.status_code} {answer.text}")
            await asyncio.sleep(float(answer.headers["retry-after"]))


def picture_of(number: int) -> bytes:
    """A small JPEG that no other visitor has."""
    out = io.BytesIO()
    Image.effect_noise((64, 64), 20 + number % 40).point(lambda value: (value + number) % 256).save(out, "JPEG")
    return out.getvalue()


async def visited(url: str, first: int, count: int) -> Burst:
    """The burst of so many visitors, from one number on."""
    burst, forgets = Burst(), CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    # A connection that is kept may be closed by the API just when it is used again; browsers then repeat the request.
    limits = httpx.Limits(max_connections=count, max_keepalive_connections=0)
    transport = {"trust_env": False, "verify": False}
    async with (
        httpx.AsyncClient(base_url=url, timeout=600, limits=limits, cookies=forgets, **transport) as client,
        asyncio.TaskGroup() as visitors,
    ):
        for number in range(first, first + count):
            visitors.create_task(Visitor(client, number, burst).visit())
    return burst


def report(alone: Burst, burst: Burst) -> None:
    """Print what the visitors saw. Ends the process with an error if somebody was lost."""
    for answer, count in sorted(burst.answers.items()):
        print(f"  {answer}: {count} times")
    for name, one, all_ in (("accepted", alone.accepted_s, burst.accepted_s), ("done", alone.done_s, burst.done_s)):
        middle, most = (percentile(all_, percent) for percent in (50, 100))
        print(
            f"  {name} after {middle / one[0]:.0f} times as long as alone ({one[0]:.1f} s), {most / one[0]:.0f} at most"
        )
    seen = burst.places.values()
    print(f"  {len(burst.done_s)} walks done; {len(seen)} visitors saw their place in the queue, {max(seen)} at most")
    if burst.faults:
        raise SystemExit("\n".join(burst.faults[:10]))


def main(owners: int = OWNERS) -> None:
    print(f"{owners} visitors at once from {NETWORKS} networks, {REPLICAS} replicas, {SHARD_S} s a shard")
    with (
        tempfile.TemporaryDirectory() as folder,
        database("PostgreSQL", Path(folder)) as database_url,
        process_of(REPLICAS, SHARD_S, STYLES, ("restyle", "clip")) as sleepers,
        served(
            Path(folder), database_url, **DEFAULTS, MOMALISA_MODEL_CARD="", MOMALISA_REPLICAS=sleepers.addresses
        ) as api,
    ):
        url = f"http://127.0.0.1:{api.port}"
        asyncio.run(visited(url, 1_000_000, 1))
        alone = asyncio.run(visited(url, 2_000_000, 1))
        used_s, began = api.cpu_s(), time.perf_counter()
        burst = asyncio.run(visited(url, 0, owners))
        took_s, used_s = time.perf_counter() - began, api.cpu_s() - used_s
        report(alone, burst)
        print(
            f"  {took_s:.0f} s in all, {1000 * used_s / owners:.0f} ms of a core in the API's process for each visitor"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
