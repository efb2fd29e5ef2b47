"""Accepted walks per second: distinct wishes POSTed to one api process, on SQLite and on PostgreSQL.

    python bench/accepted.py

VISITORS connections at once, each wish of another owner, no replica awake: what is measured is the way from the request
to a walk that is in the catalogue and in line. The line grows from none to WALKS, and each answer tells a place in it.
Beside it, in the same run: GETs of a walk that waits, by the same visitors on the same process; and the bare rows of as
many walks and asks, inserted in as many transactions by as many tasks without any api. PostgreSQL runs without fsync.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rig.connection import connected, percentile
from rig.served import Api, database, served
from sqlalchemy import insert, select, text

from momalisa_api.store.schema import opened
from momalisa_api.store.tables import asks, walks

VISITORS, WALKS, SOME = 8, 600, 100
ENDS = ("SQLite", "all"), ("PostgreSQL", "all"), ("PostgreSQL", "web")
Act = Callable[[int, int], Awaitable[float]]


async def rate_of(act: Act) -> tuple[float, list[float]]:
    """Acts per second, and the seconds of each, when VISITORS do WALKS of them. act: who does it, the number of it."""
    left, took_s = iter(range(WALKS)), []

    async def visit(who: int) -> None:
        for number in left:
            took_s.append(await act(who, number))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as visitors:
        for who in range(VISITORS):
            visitors.create_task(visit(who))
    return WALKS / (time.perf_counter() - began), took_s


async def asked_and_read(api: Api) -> tuple[str, float, float]:
    """What to print of POSTs, and POSTs and GETs per second."""
    async with AsyncExitStack() as stack:
        visitors = [await stack.enter_async_context(connected(api.port)) for _ in range(VISITORS)]
        last = ""

        async def ask(who: int, number: int) -> float:
            nonlocal last
            wish = {"start": f"a giraffe, number {number}", "end": "a battleship", "seed": number}
            answer, took_s = await visitors[who].ask("POST", "/api/v1/walks", wish)
            last = json.loads(answer)["url"]
            return took_s

        async def read(who: int, _: int) -> float:
            return (await visitors[who].ask("GET", last))[1]

        used_s = api.cpu_s()
        posts, took_s = await rate_of(ask)
        used_s = api.cpu_s() - used_s
        gets, _ = await rate_of(read)
    first, then = (1000 * percentile(some, 50) for some in (took_s[:SOME], took_s[-SOME:]))
    said = f"p50 {1000 * percentile(took_s, 50):4.0f} ms ({first:.0f} in an empty line, {then:.0f} in the full one)"
    said += f"   p99 {1000 * percentile(took_s, 99):4.0f} ms   {1000 * used_s / WALKS:4.1f} ms of a core each"
    return said, posts, gets


async def inserted(url: str) -> float:
    """Bare pairs of rows per second: the same rows as the api's, once more after these are gone."""
    async with opened(url) as engine:
        async with engine.begin() as connection:
            rows = {row.id: row._asdict() for row in await connection.execute(select(walks))}
            wishes = {row.walk_id: row._asdict() for row in await connection.execute(select(asks))}
            await connection.execute(text("DELETE FROM walks"))
        ids = list(rows)

        async def insert_one(_: int, number: int) -> float:
            began = time.perf_counter()
            async with engine.begin() as connection:
                await connection.execute(insert(walks), [rows[ids[number]]])
                await connection.execute(insert(asks), [wishes[ids[number]]])
            return time.perf_counter() - began

        rate, _ = await rate_of(insert_one)
    return rate


async def main(kind: str, role: str) -> None:
    with tempfile.TemporaryDirectory() as name, database(kind, folder := Path(name)) as url:
        with served(folder, url, MOMALISA_ROLE=role) as api:
            said, posts, gets = await asked_and_read(api)
        bare = await inserted(url)
    print(f"{kind:10} role {role:3}  {posts:4.0f} walks/s   {said}", flush=True)
    print(f"{'':20} GETs {gets:4.0f}/s, {gets / posts:.1f} a walk   bare rows {bare:4.0f}/s, {bare / posts:.1f} a walk")


if __name__ == "__main__":
    print(f"{WALKS} walks by {VISITORS} visitors at once")
    for database_kind, api_role in ENDS:
        asyncio.run(main(database_kind, api_role))
