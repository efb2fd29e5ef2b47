"""Reading and changing rows of walks: shared by the catalogue, the gallery and progress."""

from datetime import UTC
from typing import Any, Final

from sqlalchemy import Row, Select, Table, select, update
from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.problems import WalkNotFound
from momalisa_api.store.engine import transaction
from momalisa_api.store.tables import landings, walks
from momalisa_api.walks.rounds import Layout, first_layout
from momalisa_api.walks.smoothness import Smoothness
from momalisa_api.walks.spec import WalkSpec
from momalisa_api.walks.walk import State, Walk

NOT_FOUND: Final = "No walk has this id. Create it with POST /api/v1/walks."


def insert_into(engine: AsyncEngine, table: Table) -> PostgresInsert | SqliteInsert:
    """An INSERT with support for ON CONFLICT, which SQLAlchemy implements per database."""
    return postgres_insert(table) if engine.dialect.name == "postgresql" else sqlite_insert(table)


async def read_walk(engine: AsyncEngine, walk_id: str) -> Walk:
    """The newest snapshot of a walk. Raises WalkNotFound."""
    async with transaction(engine) as connection:
        found = await read_walks(connection, select(walks).where(walks.c.id == walk_id))
    if not found:
        raise WalkNotFound(NOT_FOUND)
    return found[0]


async def lock_walk(connection: AsyncConnection, walk_id: str) -> bool:
    """Lock a walk's row until the transaction ends. Returns whether the walk exists."""
    same = update(walks).where(walks.c.id == walk_id).values(frames=walks.c.frames)
    return (await connection.execute(same)).rowcount == 1


async def change_walk(engine: AsyncEngine, walk_id: str, condition: Any, **columns: Any) -> bool:
    """Set columns of a walk if a condition holds, and increase its revision. Returns whether the row changed."""
    query = update(walks).where(walks.c.id == walk_id, condition)
    async with transaction(engine) as connection:
        changed = await connection.execute(query.values(revision=walks.c.revision + 1, **columns))
    return changed.rowcount == 1


async def read_walks(connection: AsyncConnection, query: Select[Any]) -> list[Walk]:
    """The walks of a query with their stored frames, in two queries however many walks there are."""
    while True:
        rows = (await connection.execute(query)).all()
        # A finished walk has all its frames, so a page of the gallery reads no landings.
        plans = {row.id: row.plans for row in rows if row.state != State.DONE}
        frames: dict[str, set[int]] = {walk_id: set() for walk_id in plans}
        stored = list(await connection.execute(select(landings).where(landings.c.walk_id.in_(plans)))) if plans else []
        for landing in stored:
            if landing.plan == plans[landing.walk_id]:
                frames[landing.walk_id].add(landing.frame)
        # Otherwise the walk was planned again between the two queries: read both again.
        if all(landing.plan <= plans[landing.walk_id] for landing in stored):
            return [_walk(row, frames.get(row.id)) for row in rows]


def _walk(row: Row[Any], stored: set[int] | None) -> Walk:
    spec = WalkSpec.model_validate(row.spec)
    return Walk(
        id=row.id,
        number=row.number,
        spec=spec,
        state=State(row.state),
        revision=row.revision,
        tries=row.tries,
        tag=row.tag,
        layout=Layout.model_validate(row.layout) if row.layout else first_layout(spec),
        plan=None if row.plan is None else tuple(map(tuple, row.plan)),
        plans=row.plans,
        stored=frozenset(range(spec.frames) if stored is None else stored),
        films=frozenset(row.films),
        warnings=tuple(row.warnings),
        smoothness=row.smoothness and Smoothness.model_validate(row.smoothness),
        error=row.error,
        created_at=row.created_at.replace(tzinfo=UTC),
    )
