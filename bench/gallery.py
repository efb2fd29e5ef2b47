"""The time of a gallery page in a catalogue of 100,000 walks relative to one of 1,000.

    python bench/gallery.py

Two API processes over real HTTP, called in turn, on SQLite and on PostgreSQL; the ratio is of the medians. In both
catalogues 30 walks contain the rare word, one owner has 50 walks, and another owner has half of all.
"""

import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from rig.connection import Connection, connected, percentile
from rig.served import database, served
from rig.stock import FEW, MANY, RARE, fill

SMALL, LARGE, TURNS = 1_000, 100_000, 50


class Page(NamedTuple):
    """A query and its owner. {half}: a cursor in the middle of all walks."""

    name: str
    query: str
    owner: str = FEW


PAGES = (
    Page("the first page", ""),
    Page("a page further back", "?before={half}"),
    Page("q= in many walks", "?q=spiral"),
    Page("q= in 30 walks", f"?q={RARE}"),
    Page("the same, further back", f"?q={RARE}&before={{half}}"),
    Page("q= in no walk", "?q=submarine"),
    Page("q= of 2 letters, in none", "?q=zq"),
    Page("owner=me, of 50", "?owner=me"),
    Page("owner=me, of half", "?owner=me", MANY),
    Page("owner=me, of half, q=", f"?owner=me&q={RARE}", MANY),
)
Visitors = dict[str, Connection]


async def compare(kind: str, visitors: dict[int, Visitors]) -> None:
    """Print a line for each page."""
    for page in PAGES:
        took_s: dict[int, list[float]] = {count: [] for count in visitors}
        for _ in range(TURNS):
            for count, by_owner in visitors.items():
                answer, seconds = await by_owner[page.owner].send(
                    "GET", "/api/v1/walks" + page.query.format(half=count // 2)
                )
                took_s[count].append(seconds)
        small, large = (1000 * percentile(took_s[count], 50) for count in (SMALL, LARGE))
        found = len(json.loads(answer)["walks"])
        print(
            f"{kind:10}  {page.name:22} {small:6.1f} -> {large:6.1f} ms, {large / small:5.2f} x   {found:2} walks",
            flush=True,
        )


async def main(kind: str) -> None:
    """Fill two catalogues and request pages of both."""
    visitors: dict[int, Visitors] = {}
    async with AsyncExitStack() as stack:
        for count in (SMALL, LARGE):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = stack.enter_context(database(kind, folder))
            keys = await fill(url, count)
            api = stack.enter_context(served(folder, url))
            visitors[count] = {
                name: await stack.enter_async_context(connected(api.port, Authorization=f"Bearer {key}"))
                for name, key in keys.items()
            }
        await compare(kind, visitors)


if __name__ == "__main__":
    print(f"a gallery page in {SMALL} walks -> in {LARGE}, medians of {TURNS} (target on PostgreSQL: at most 1.5 x)")
    for database_kind in ("SQLite", "PostgreSQL"):
        asyncio.run(main(database_kind))
