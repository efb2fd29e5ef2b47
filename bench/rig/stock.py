"""A large catalogue, written directly into its tables."""

import random
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.owners import add_key
from momalisa_api.store.schema import opened
from momalisa_api.store.tables import asks, walks
from momalisa_api.walks.walk import State
from tests.support.factories import spec

COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "teal",
    "blue",
    "navy",
    "violet",
    "pink",
    "brown",
    "black",
    "white",
    "gold",
)
THINGS = ("spiral", "sunburst", "wave", "flower", "grid", "target", "rainbow", "star", "mosaic", "ladder", "lantern")
MANNERS = ("", "wide ", "narrow ", "soft ", "rising ", "tilted ", "broken ", "slow ")
FILMS = ["poster.jpg", "poster.webp", "preview.mp4", "walk.gif", "walk.mp4"]
RARE, RARE_WALKS = "zeppelin", 30
FEW, FEW_WALKS, MANY = "few", 50, "many"
OTHERS = 5000
CHUNK = 1000

Row = dict[str, Any]


async def fill(database_url: str, count: int) -> dict[str, str]:
    """Write `count` finished walks into an empty catalogue, one per minute until now; then ANALYZE.

    RARE_WALKS of them contain the word RARE, and FEW_WALKS belong to the owner FEW, both spread evenly over all. The
    owner MANY has requested every other walk too. Returns the API keys of FEW and MANY.
    """
    async with opened(database_url) as engine:
        keys = {name: await add_key(engine, name) for name in (FEW, MANY)}
        walk, ask = await _rows_of_one(engine)
        async with engine.begin() as connection:
            rows = _rows(count, walk, ask)
            while chunk := list(islice(rows, CHUNK)):
                await _write(connection, chunk)
        async with engine.begin() as connection:
            await connection.execute(text("ANALYZE"))
    return keys


async def _rows_of_one(engine: AsyncEngine) -> tuple[Row, Row]:
    """The rows of one walk and its request, written by the catalogue, which knows the columns."""
    catalogue = Catalogue(engine)
    made, _ = await catalogue.request(spec(), FEW)
    async with engine.begin() as connection:
        walk = (await connection.execute(select(walks))).one()._asdict()
        ask = (await connection.execute(select(asks))).one()._asdict()
    await catalogue.remove(made.id)
    del walk["number"]
    return walk, ask


async def _write(connection: AsyncConnection, chunk: Sequence[tuple[Row, list[Row]]]) -> None:
    await connection.execute(insert(walks), [walk for walk, _ in chunk])
    await connection.execute(insert(asks), [ask for _, requests in chunk for ask in requests])


def _rows(count: int, walk: Row, ask: Row) -> Iterator[tuple[Row, list[Row]]]:
    """Each walk and its requests, oldest first."""
    dice, rare, few = random.Random(count), _spread(RARE_WALKS, count), _spread(FEW_WALKS, count)
    for index in range(count):
        stops = [_prompt(dice) for _ in range(dice.choice((2, 2, 2, 3)))]
        if index in rare:
            stops[0] += f" with a {RARE}"
        request = spec(tuple(stops), seed=index)
        made_at = walk["created_at"] - timedelta(minutes=count - index)
        about = {"id": request.id, "spec": request.model_dump(mode="json"), "stops": "\n".join(stops).casefold()}
        done = {"state": State.DONE, "revision": 30, "films": FILMS, "created_at": made_at}
        owners = [f"key:{FEW}" if index in few else f"cookie:{dice.randrange(OTHERS):024x}"]
        owners += [f"key:{MANY}"] if index % 2 else []
        requested = {**ask, "walk_id": request.id, "asked_at": made_at}
        yield {**walk, **about, **done}, [{**requested, "owner": owner} for owner in owners]


def _prompt(dice: random.Random) -> str:
    first, ground = dice.sample(COLOURS, 2)
    return f"a {dice.choice(MANNERS)}{first} {dice.choice(THINGS)} on {ground}"


def _spread(few: int, count: int) -> set[int]:
    return {(2 * place + 1) * count // (2 * few) for place in range(few)}
