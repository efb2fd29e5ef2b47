"""How much visitors may upload in a day: of all kinds together, for each owner and for each network."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, delete, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.problems import QuotaExceeded
from momalisa_api.store.engine import transaction
from momalisa_api.store.tables import uploads

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How much one owner may upload in 24 hours, and how many times as much all owners of a network together."""

    count: int
    size: int
    owners_per_network: int


class UploadCounter:
    """The records of uploads. Everything raises CatalogueUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def admit(self, owner: str, network: str | None, size: int, limits: UploadLimits) -> None:
        """Count an upload of some bytes against the daily limits. Raises QuotaExceeded, and counts nothing.

        network: whose limits apply beside the owner's, if there is one.
        """
        now = datetime.now(UTC)
        of_all = [(uploads.c.owner == owner, 1)]
        if network:
            of_all.append((uploads.c.network == network, limits.owners_per_network))
        async with transaction(self._engine) as connection:
            if network:
                await one_upload_at_a_time(connection, f"network {network}")
            await one_upload_at_a_time(connection, owner)
            row = {"owner": owner, "network": network, "size": size, "uploaded_at": now}
            await connection.execute(insert(uploads).values(row))
            for which, owners in of_all:
                await _check_load(connection, which, owners, limits, now)

    async def delete_old(self) -> int:
        """Delete the records that no limit counts any more. Returns their number."""
        async with transaction(self._engine) as connection:
            old = delete(uploads).where(uploads.c.uploaded_at <= datetime.now(UTC) - _DAY)
            return (await connection.execute(old)).rowcount


async def one_upload_at_a_time(connection: AsyncConnection, owner: str) -> None:
    """Lock out other uploads of an owner, or a network, until the transaction ends: limits count the current ones."""
    if connection.dialect.name == "postgresql":
        lock = text("SELECT pg_advisory_xact_lock(hashtext('momalisa uploads'), hashtext(:owner))")
        await connection.execute(lock, {"owner": owner})


async def _check_load(
    connection: AsyncConnection, which: ColumnElement[bool], owners: int, limits: UploadLimits, now: datetime
) -> None:
    """Check the uploads of as many owners. The exception takes the newest back."""
    load = select(func.count(), func.coalesce(func.sum(uploads.c.size), 0), func.min(uploads.c.uploaded_at))
    count, size = owners * limits.count, owners * limits.size
    found, total, first = (await connection.execute(load.where(which, uploads.c.uploaded_at > now - _DAY))).one()
    if found <= count and total <= size:
        return
    opens = first.replace(tzinfo=UTC) + _DAY
    whose = "" if owners == 1 else " from your network address"
    raise QuotaExceeded(
        f"Daily limit of {count:,} uploads or {size // 1_000_000:,} MB{whose} reached. "
        f"It resets at {opens:%Y-%m-%d %H:%M} UTC.",
        max(1, round((opens - now).total_seconds())),
    )
