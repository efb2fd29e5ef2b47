"""Charges: who started which walk, and how many frames it may render. Limits count them, and turns in the queue.

A charge lasts for a day, or until its walk has ended. It outlives a walk that is deleted, so deletion gives nothing
back. Joining a walk that exists costs nothing.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from momalisa_api.store.owners import ANONYMOUS, KEY_OWNER
from momalisa_api.store.tables import charges, walks
from momalisa_api.walks.walk import OPEN

CHARGE_LASTS: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Load:
    """What some charges sum up to: unfinished walks, and the frames of a day. first: when its oldest one was made."""

    open_walks: int
    frames: int
    first: datetime | None


def account_of(owner: str, network: str | None) -> str:
    """Whose limits and turn a request counts for: anonymous callers share an owner, but only those of one network."""
    return f"network:{network}" if owner == ANONYMOUS and network else owner


def limited_network(owner: str, network: str) -> str | None:
    """The network whose limits apply to an owner: none with an API key, which operators give and nobody can invent."""
    return None if owner.startswith(KEY_OWNER) else network


async def charge(connection: AsyncConnection, walk_id: str, account: str, network: str | None, frames: int) -> None:
    """Charge a walk that starts."""
    row = {"walk_id": walk_id, "owner": account, "network": network, "frames": frames, "charged_at": datetime.now(UTC)}
    await connection.execute(insert(charges).values(row))


async def release(connection: AsyncConnection, walk_id: str) -> None:
    """Count a walk as unfinished for nobody any more. Its frames stay charged."""
    await connection.execute(update(charges).where(charges.c.walk_id == walk_id).values(walk_id=None))


async def load_of_account(connection: AsyncConnection, account: str, now: datetime) -> Load:
    """The load by one account."""
    return await _load(connection, charges.c.owner == account, now)


async def load_of_network(connection: AsyncConnection, network: str, now: datetime) -> Load:
    """The load by all callers of a network."""
    return await _load(connection, charges.c.network == network, now)


async def frames_of_day(connection: AsyncConnection, now: datetime) -> tuple[int, datetime | None]:
    """The frames of all charges of a day, and when the oldest of them was made."""
    summed = select(func.coalesce(func.sum(charges.c.frames), 0), func.min(charges.c.charged_at))
    frames, first = (await connection.execute(summed.where(charges.c.charged_at > now - CHARGE_LASTS))).one()
    return int(frames), _aware(first)


async def delete_old_charges(connection: AsyncConnection) -> int:
    """Delete the charges that count no more. Returns their number."""
    unfinished = select(walks.c.id).where(walks.c.id == charges.c.walk_id, walks.c.state.in_(OPEN)).exists()
    old = charges.c.charged_at <= datetime.now(UTC) - CHARGE_LASTS
    return (await connection.execute(delete(charges).where(old, ~unfinished))).rowcount


async def _load(connection: AsyncConnection, which: ColumnElement[bool], now: datetime) -> Load:
    of_walks = charges.join(walks, charges.c.walk_id == walks.c.id)
    walking = select(func.count()).select_from(of_walks).where(which, walks.c.state.in_(OPEN))
    of_day = select(
        walking.correlate(None).scalar_subquery(),
        func.coalesce(func.sum(charges.c.frames), 0),
        func.min(charges.c.charged_at),
    ).where(which, charges.c.charged_at > now - CHARGE_LASTS)
    open_walks, frames, first = (await connection.execute(of_day)).one()
    return Load(int(open_walks), int(frames), _aware(first))


def _aware(time: datetime | None) -> datetime | None:
    """SQLite stores no time zone."""
    return time.replace(tzinfo=UTC) if time else None
