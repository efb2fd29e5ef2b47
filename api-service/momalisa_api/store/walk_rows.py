"""Reading and changing rows of walks: shared by the catalogue, the gallery and progress."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any, Final

import structlog
from sqlalchemy import Row, Select, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.problems import Gone, WalkNotFound
from momalisa_api.store.engine import reading, transaction, unreadable_of
from momalisa_api.store.tables import landings, walks
from momalisa_api.walks.rounds import Layout, first_layout
from momalisa_api.walks.smoothness import Smoothness
from momalisa_api.walks.spec import spec_from_stored
from momalisa_api.walks.walk import State, Walk

NOT_FOUND: Final = "There is no walk with this id, or it is private. Check the address, or use a link from its owner."
UNREADABLE: Final = (
    "This release cannot read the stored walk. Request its prompts again with POST /api/v1/walks; "
    "an operator can delete the walk with `momalisa purge`."
)
# One damaged row is logged and counted. A whole catalogue of them is one fault, and needs neither room nor more lines.
MOST_UNREADABLE: Final = 1000

log = structlog.get_logger()


def searchable(text: str) -> str:
    """A text in the form in which the gallery's search compares texts: composed, in one case."""
    return unicodedata.normalize("NFC", text).casefold()


async def read_walk(engine: AsyncEngine, walk_id: str) -> Walk:
    """The newest snapshot of a walk. Raises WalkNotFound, and Gone for a walk that this release cannot read."""
    same = walks.c.id == walk_id
    async with reading(engine) as connection:
        if found := await read_walks(connection, select(walks).where(same)):
            return found[0]
        if await connection.scalar(select(walks.c.id).where(same)):
            raise Gone(UNREADABLE)
    raise WalkNotFound(NOT_FOUND)


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
    """The walks of a query with their stored frames, in two queries however many walks there are.

    Rows that this release cannot read are left out.
    """
    rows, stored = await _fetch(connection, query)
    return _readable(connection, rows, stored)


async def read_page(
    connection: AsyncConnection, query: Select[Any], before: int | None, limit: int
) -> tuple[list[Walk], int | None]:
    """The newest walks of a query whose numbers are below `before`, and the `before` of the next page, if there is one.

    Rows that this release cannot read are left out, and the page is filled with the next ones.
    """
    newest_first = query.order_by(walks.c.number.desc())
    found: list[Walk] = []
    while True:
        wanted = limit - len(found)
        page = newest_first.where(walks.c.number < before) if before is not None else newest_first
        rows, stored = await _fetch(connection, page.limit(wanted + 1))
        found += _readable(connection, rows[:wanted], stored)
        before = rows[wanted - 1].number if len(rows) > wanted else None
        if before is None or len(found) == limit:
            return found, before


async def count_unreadable(engine: AsyncEngine) -> int:
    """How many of the walks that this process could not read are still in the catalogue, and still unreadable."""
    known = unreadable_of(engine)
    if known:
        async with transaction(engine) as connection:
            rows, stored = await _fetch(connection, select(walks).where(walks.c.id.in_(list(known))))
            readable = {walk.id for walk in _readable(connection, rows, stored)}
        known &= {row.id for row in rows} - readable
    return len(known)


async def _fetch(connection: AsyncConnection, query: Select[Any]) -> tuple[Sequence[Row[Any]], dict[str, set[int]]]:
    """The rows of a query, and the numbers of the stored frames of each walk that is not done."""
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
            return rows, frames


def _readable(connection: AsyncConnection, rows: Iterable[Row[Any]], stored: Mapping[str, set[int]]) -> list[Walk]:
    """The walks of rows, without those that this release cannot read. Each of those is logged once."""
    found, known = list[Walk](), unreadable_of(connection.engine)
    for row in rows:
        try:
            found.append(_walk(row, stored.get(row.id)))
        except (ValueError, TypeError, LookupError) as error:
            if row.id not in known and len(known) < MOST_UNREADABLE:
                known.add(row.id)
                log.error("walk cannot be read; delete it with `momalisa purge`", walk=row.id, reason=str(error))
    return found


def _walk(row: Row[Any], stored: set[int] | None) -> Walk:
    spec = spec_from_stored(row.spec, row.spec_version)
    walk = Walk(
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
        smoothness=None if row.smoothness is None else Smoothness.model_validate(row.smoothness),
        error=row.error,
        created_at=row.created_at.replace(tzinfo=UTC),
        fingerprint=row.fingerprint,
        fingerprints=tuple(row.fingerprints),
        frames_removed=row.frames_removed,
        films_removed=row.films_removed,
        extras=tuple(row.extras),
    )
    _check(walk)
    return walk


def _check(walk: Walk) -> None:
    """Raise ValueError for parts that do not fit together: showing or rendering such a walk would fail."""
    points = len(walk.layout.points)
    if not all(0 <= point.leg < len(walk.spec.legs) for point in walk.layout.points):
        raise ValueError("a point of its layout is on a leg that it does not have")
    planned = (number for shard in walk.plan or () for number in shard)
    if not points or not all(0 <= number < points for number in (*walk.stored, *planned)):
        raise ValueError("its layout lacks points that are stored or planned")
    if not all(isinstance(text, str) for text in (*walk.films, *walk.warnings, *walk.fingerprints, *walk.extras)):
        raise ValueError("its films, extras, warnings and fingerprints are not texts")
