"""Moves everything of one owner to another, in one transaction: what a visitor did before signing in."""

from sqlalchemy import Table, delete, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.store.engine import insert_into, transaction
from momalisa_api.store.tables import asks, charges, clips, notice_charges, notices, pictures, uploads
from momalisa_api.store.upload_limits import one_upload_at_a_time


class Handover:
    """Gives an owner what another one has. To do it twice changes nothing more. Raises CatalogueUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def move(self, source: str, target: str) -> None:
        """Move requests with their notices, uploads, and what counts against limits.

        Where both requested one walk, target's request stays as it is.
        """
        async with transaction(self._engine) as connection:
            await self._move_requests(connection, source, target)
            await one_upload_at_a_time(connection, target)
            for table in UPLOADED:
                await _move_uploads(connection, table, source, target)
            for table in COUNTED:
                await connection.execute(update(table).where(table.c.owner == source).values(owner=target))

    async def _move_requests(self, connection: AsyncConnection, source: str, target: str) -> None:
        """New rows and then none of the old: at no time is there a walk that nobody requests."""
        columns = [column for column in asks.c if column.name != "owner"]
        theirs = select(literal(target).label("owner"), *columns).where(asks.c.owner == source)
        copied = insert_into(self._engine, asks).from_select(["owner", *(each.name for each in columns)], theirs)
        await connection.execute(copied.on_conflict_do_nothing(index_elements=["walk_id", "owner"]))
        # Before their requests go, which would take them along.
        await connection.execute(update(notices).where(notices.c.owner == source).values(owner=target))
        await connection.execute(delete(asks).where(asks.c.owner == source))


# Rows that only count: nothing in them is unique for an owner.
COUNTED: tuple[Table, ...] = (uploads, charges, notice_charges)
UPLOADED: tuple[Table, ...] = (pictures, clips)


async def _move_uploads(connection: AsyncConnection, table: Table, source: str, target: str) -> None:
    """Files by their rows. One that target has already is deleted as if source had done it: walks keep its file."""
    had = select(table.c.id).where(table.c.owner == target, ~table.c.deleted)
    twice = (table.c.owner == source) & table.c.id.in_(had)
    await connection.execute(update(table).where(twice).values(deleted=True))
    await connection.execute(update(table).where(table.c.owner == source).values(owner=target))
