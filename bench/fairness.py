"""What a flood of new cookies does to an honest caller: how many walks it gets, and how long the honest caller waits.

    python bench/fairness.py

One API process with the default limits, on PostgreSQL, and REPLICAS replicas that sleep SHARD_S for each shard; it has
twice as many shards in flight, and these are rendered before any walk that is requested later. A flood
of FLOOD requests, each without a cookie and so from a new owner, comes from one IPv4 address, from as many addresses in
one IPv6 /64, or, for comparison, from as many networks, which is what the limits of owners alone would allow to
everybody. It goes on while an honest caller at another address requests TRIES walks, one after another. Printed as
ratios to the time of the same walks on the same, idle deployment. PostgreSQL runs without fsync.
"""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from math import inf
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
from rig.served import database, served
from rig.sleepers import process_of

from tests.support.factories import CARD

REPLICAS, SHARD_S, FLOOD, VISITORS, TRIES = 4, 1.0, 1000, 4, 2
# How many times as long as alone a walk may take before it counts as kept out.
LIMIT = 20
DEFAULTS = {
    "MOMALISA_MAX_QUEUED_WALKS": "1000",
    "MOMALISA_MAX_WALKS_PER_OWNER": "50",
    "MOMALISA_FRAMES_PER_OWNER_PER_DAY": "20000",
    "MOMALISA_OWNERS_PER_NETWORK": "5",
    "MOMALISA_MAX_SHARDS_IN_FLIGHT": str(2 * REPLICAS),
}
HONEST = "198.51.100.9"
FLOODS: dict[str, Callable[[int], str]] = {
    "from one address": lambda _: "203.0.113.7",
    "from one /64": lambda number: f"2001:db8::{number:x}",
    "from 1,000 networks": lambda number: f"2001:db8:0:{number:x}::1",
}


async def post(client: httpx.AsyncClient, address: str, seed: int) -> httpx.Response:
    """Request a walk as a new owner."""
    body = {"start": "a giraffe", "end": "a battleship", "spacing": "uniform", "seed": seed}
    client.cookies.clear()
    return await client.post("/api/v1/walks", json=body, headers={"X-Forwarded-For": address})


async def honest_s(client: httpx.AsyncClient, first_seed: int, limit_s: float) -> list[float]:
    """The seconds that each of the honest caller's walks takes; infinite if it is refused, or takes too long."""
    took_s = []
    for seed in range(first_seed, first_seed + TRIES):
        began = time.perf_counter()
        answer = await post(client, HONEST, seed)
        state, passed_s = "waiting" if answer.is_success else "refused", 0.0
        while state not in ("done", "refused") and passed_s < limit_s:
            await asyncio.sleep(0.05)
            state = (await client.get(answer.json()["url"])).json()["state"]
            passed_s = time.perf_counter() - began
        took_s.append(passed_s if state == "done" else inf)
    return took_s


async def flooded(url: str, address_of: Callable[[int], str]) -> None:
    """Print the honest caller's time with a flood, as a ratio to its time without."""
    statuses, numbers, begun = Counter[int](), iter(range(10**9)), asyncio.Event()

    async def flood(client: httpx.AsyncClient) -> None:
        for number in numbers:
            statuses[(await post(client, address_of(number % FLOOD), 1000 + number)).status_code] += 1
            if number >= FLOOD:
                begun.set()
                # It goes on, but leaves the processor to the API under test.
                await asyncio.sleep(0.2)

    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        alone_s = median(await honest_s(client, 0, inf))
        flooding = [asyncio.create_task(flood(client)) for _ in range(VISITORS)]
        await begun.wait()
        accepted, refused = statuses[201], Counter({code: count for code, count in statuses.items() if code != 201})
        with_flood_s = await honest_s(client, 100, LIMIT * alone_s)
        for task in flooding:
            task.cancel()
    ratios = ", ".join(f"{took_s / alone_s:.1f}" for took_s in with_flood_s)
    print(f"  {accepted} of the first {FLOOD} accepted, refused: {dict(refused)}")
    print(f"  honest caller: alone {alone_s:.1f} s, with the flood {ratios} times as long", flush=True)


def main() -> None:
    for name, address_of in FLOODS.items():
        print(f"flood of new cookies {name}")
        with (
            tempfile.TemporaryDirectory() as folder,
            database("PostgreSQL", Path(folder)) as database_url,
            process_of(REPLICAS, SHARD_S, CARD) as sleepers,
            served(Path(folder), database_url, **DEFAULTS, MOMALISA_REPLICAS=sleepers.addresses) as api,
        ):
            asyncio.run(flooded(f"http://127.0.0.1:{api.port}", address_of))


if __name__ == "__main__":
    main()
