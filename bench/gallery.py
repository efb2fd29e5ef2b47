"""A gallery page in a catalogue of 100,000 walks over the same page in one of 1,000.

    python bench/gallery.py

Two api processes over real HTTP, asked in turns, on SQLite and on PostgreSQL; the ratio is of the medians. In both
catalogues 30 walks hold the rare word, 50 are of one owner, and half of all are of another.
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
    """What is asked for, and by whom. {half}: a cursor in the middle of all walks."""

    name: str
    query: str
    who: str = FEW


PAGES = (
    Page("the first page", ""),
    Page("a page further back", "?before={half}"),
    Page("q= that many hold", "?q=spiral"),
    Page("q= that 30 walks hold", f"?q={RARE}"),
    Page("q= that, further back", f"?q={RARE}&before={{half}}"),
    Page("q= that none holds", "?q=submarine"),
    Page("q= of 2 letters, none", "?q=zq"),
    Page("owner=me, of 50", "?owner=me"),
    Page("owner=me, of half", "?owner=me", MANY),
    Page("owner=me, of half, q=", f"?owner=me&q={RARE}", MANY),
)
Visitors = dict[str, Connection]


async def compare(kind: str, visitors: dict[int, Visitors]) -> None:
    """A line a page."""
    for page in PAGES:
        took_s: dict[int, list[float]] = {count: [] for count in visitors}
        for _ in range(TURNS):
            for count, named in visitors.items():
                answer, seconds = await named[page.who].ask("GET", "/api/v1/walks" + page.query.format(half=count // 2))
                took_s[count].append(seconds)
        small, large = (1000 * percentile(took_s[count], 50) for count in (SMALL, LARGE))
        held = len(json.loads(answer)["walks"])
        print(
            f"{kind:10}  {page.name:22} {small:6.1f} -> {large:6.1f} ms, {large / small:5.2f} x   {held:2} walks",
            flush=True,
        )


async def main(kind: str) -> None:
    """Fill two catalogues and ask for pages of both."""
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
