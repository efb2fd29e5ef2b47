"""Accepted walks per second: distinct requests POSTed to one API process, on SQLite and on PostgreSQL.

    python bench/accepted.py

VISITORS connections at once, each request from a different owner, no replica awake: this measures the time from the
request to a walk in the catalogue and the queue. The queue grows from empty to WALKS, and each response contains a
queue position. For comparison, in the same run: GETs of a waiting walk, by the same visitors on the same process; and
the same number of walks and requests inserted as bare rows, in as many transactions by as many tasks, without the API.
PostgreSQL runs without fsync.
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
    """Acts per second, and the duration of each, for WALKS acts of VISITORS tasks. act: gets visitor and number."""
    left, took_s = iter(range(WALKS)), []

    async def visit(visitor: int) -> None:
        for number in left:
            took_s.append(await act(visitor, number))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as visitors:
        for visitor in range(VISITORS):
            visitors.create_task(visit(visitor))
    return WALKS / (time.perf_counter() - began), took_s


async def posted_and_read(api: Api) -> tuple[str, float, float]:
    """A line about POSTs to print, and POSTs and GETs per second."""
    async with AsyncExitStack() as stack:
        visitors = [await stack.enter_async_context(connected(api.port)) for _ in range(VISITORS)]
        last = ""

        async def post(visitor: int, number: int) -> float:
            nonlocal last
            request = {"start": f"a giraffe, number {number}", "end": "a battleship", "seed": number}
            answer, took_s = await visitors[visitor].send("POST", "/api/v1/walks", request)
            last = json.loads(answer)["url"]
            return took_s

        async def read(visitor: int, _: int) -> float:
            return (await visitors[visitor].send("GET", last))[1]

        used_s = api.cpu_s()
        posts, took_s = await rate_of(post)
        used_s = api.cpu_s() - used_s
        gets, _ = await rate_of(read)
    first, then = (1000 * percentile(some, 50) for some in (took_s[:SOME], took_s[-SOME:]))
    line = f"p50 {1000 * percentile(took_s, 50):4.0f} ms ({first:.0f} with an empty queue, {then:.0f} with a full one)"
    line += f"   p99 {1000 * percentile(took_s, 99):4.0f} ms   {1000 * used_s / WALKS:4.1f} ms of a core each"
    return line, posts, gets


async def inserted(url: str) -> float:
    """Bare pairs of rows per second: deletes the API's rows and inserts the same ones again."""
    async with opened(url) as engine:
        async with engine.begin() as connection:
            rows = {row.id: row._asdict() for row in await connection.execute(select(walks))}
            requests = {row.walk_id: row._asdict() for row in await connection.execute(select(asks))}
            await connection.execute(text("DELETE FROM walks"))
        # The database computes it.
        for row in rows.values():
            del row["model"]
        ids = list(rows)

        async def insert_one(_: int, number: int) -> float:
            began = time.perf_counter()
            async with engine.begin() as connection:
                await connection.execute(insert(walks), [rows[ids[number]]])
                await connection.execute(insert(asks), [requests[ids[number]]])
            return time.perf_counter() - began

        rate, _ = await rate_of(insert_one)
    return rate


async def main(kind: str, role: str) -> None:
    with tempfile.TemporaryDirectory() as name, database(kind, folder := Path(name)) as url:
        with served(folder, url, MOMALISA_ROLE=role) as api:
            line, posts, gets = await posted_and_read(api)
        bare = await inserted(url)
    print(f"{kind:10} role {role:3}  {posts:4.0f} walks/s   {line}", flush=True)
    print(f"{'':20} GETs {gets:4.0f}/s, {gets / posts:.1f} a walk   bare rows {bare:4.0f}/s, {bare / posts:.1f} a walk")


if __name__ == "__main__":
    print(f"{WALKS} walks, {VISITORS} concurrent visitors")
    for database_kind, api_role in ENDS:
        asyncio.run(main(database_kind, api_role))
