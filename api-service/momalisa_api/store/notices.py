"""Who is told when a walk ends: mail addresses and webhooks. Each row is deleted once it is delivered or given up.

A notice belongs to a request: when an owner withdraws it, or the walk is deleted, the database deletes the notice.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from uuid import uuid4

from sqlalchemy import ColumnElement, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.problems import NotOwner, QuotaExceeded
from momalisa_api.store.engine import reading, transaction
from momalisa_api.store.tables import asks, notices, walks
from momalisa_api.walks.walk import State

WEBHOOKS_PER_REQUEST: Final = 5
WEBHOOK_RETRY_S: Final = 60
NOT_REQUESTED: Final = "Only owners of the request are told when it is done. Request the walk with POST /api/v1/walks."


class NoticeKind(StrEnum):
    """What is sent: a mail or a call of a webhook when the walk has ended, or at once a mail that asks to confirm."""

    CONFIRM = "confirm"
    MAIL = "mail"
    WEBHOOK = "webhook"


MAILS: Final = (NoticeKind.CONFIRM, NoticeKind.MAIL)


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice that is due. target: mail address or URL; private: whether only its owners can see the walk."""

    id: str
    walk_id: str
    owner: str
    kind: NoticeKind
    target: str
    secret: str | None
    tries: int
    created_at: datetime
    state: State
    private: bool
    walk_number: int


class Notices:
    """Notices that wait. Everything raises CatalogueUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def due_walks(self) -> list[str]:
        """The walks with notices that are to be delivered now."""
        query = select(notices.c.walk_id).join(walks, walks.c.id == notices.c.walk_id).where(_due()).distinct()
        async with reading(self._engine) as connection:
            return list((await connection.scalars(query)).all())

    async def due(self, walk_id: str) -> list[Notice]:
        """The notices of a walk that are to be delivered now."""
        private = walks.c.spec["scope"].as_string().is_not(None).label("private")
        query = select(notices, walks.c.state, walks.c.number, private).join(walks, walks.c.id == notices.c.walk_id)
        async with transaction(self._engine) as connection:
            rows = await connection.execute(query.where(notices.c.walk_id == walk_id, _due()))
            return [
                Notice(
                    row.id,
                    row.walk_id,
                    row.owner,
                    NoticeKind(row.kind),
                    row.target,
                    row.secret,
                    row.tries,
                    row.created_at.replace(tzinfo=UTC),
                    State(row.state),
                    bool(row.private),
                    row.number,
                )
                for row in rows
            ]

    async def postpone(self, notice: Notice, until: datetime) -> None:
        """Record that a delivery failed, and when to try again."""
        same = update(notices).where(notices.c.id == notice.id)
        async with transaction(self._engine) as connection:
            await connection.execute(same.values(tries=notice.tries + 1, next_at=until))

    async def forget(self, notice: Notice) -> None:
        """Delete a notice that was delivered or given up."""
        async with transaction(self._engine) as connection:
            await connection.execute(delete(notices).where(notices.c.id == notice.id))

    async def remove_mail(self, walk_id: str, owner: str) -> None:
        """Take back an owner's mail about a walk, also one that is not confirmed yet."""
        async with transaction(self._engine) as connection:
            await connection.execute(delete(notices).where(_mail_of(walk_id, owner)))

    async def remove_webhook(self, walk_id: str, owner: str, identity: str) -> bool:
        """Take back a webhook. Returns whether there was one that still waited."""
        same = (notices.c.walk_id == walk_id) & (notices.c.owner == owner) & (notices.c.kind == NoticeKind.WEBHOOK)
        async with transaction(self._engine) as connection:
            return (await connection.execute(delete(notices).where(same, notices.c.id == identity))).rowcount == 1


async def insert_notice(
    connection: AsyncConnection, walk_id: str, owner: str, kind: NoticeKind, target: str, secret: str | None = None
) -> str:
    """Record a notice and return its id. An owner's mail about a walk replaces the last one.

    Raises NotOwner without a request by this owner, and QuotaExceeded for more than `WEBHOOKS_PER_REQUEST`.
    """
    request = select(asks.c.owner).where(asks.c.walk_id == walk_id, asks.c.owner == owner)
    # The lock keeps the request from being withdrawn before the transaction ends.
    if not await connection.scalar(request.with_for_update(read=True, key_share=True)):
        raise NotOwner(NOT_REQUESTED)
    if kind is NoticeKind.WEBHOOK:
        theirs = select(func.count()).where(notices.c.walk_id == walk_id, notices.c.owner == owner)
        if (await connection.scalar(theirs.where(notices.c.kind == kind)) or 0) >= WEBHOOKS_PER_REQUEST:
            raise QuotaExceeded(
                f"A walk can have {WEBHOOKS_PER_REQUEST} of your webhooks. Delete one.", WEBHOOK_RETRY_S
            )
    else:
        await connection.execute(delete(notices).where(_mail_of(walk_id, owner)))
    row = {
        "id": uuid4().hex,
        "walk_id": walk_id,
        "owner": owner,
        "kind": kind,
        "target": target,
        "secret": secret,
        "tries": 0,
        "created_at": datetime.now(UTC),
    }
    await connection.execute(insert(notices).values(row))
    return str(row["id"])


def _due() -> ColumnElement[bool]:
    ended = walks.c.state.in_([State.DONE, State.FAILED])
    now = or_(notices.c.next_at.is_(None), notices.c.next_at <= datetime.now(UTC))
    return or_(notices.c.kind == NoticeKind.CONFIRM, ended) & now


def _mail_of(walk_id: str, owner: str) -> ColumnElement[bool]:
    return (notices.c.walk_id == walk_id) & (notices.c.owner == owner) & notices.c.kind.in_(MAILS)
