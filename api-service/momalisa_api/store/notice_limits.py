"""Accepts notices within daily limits, so that nobody can mail strangers: which addresses are confirmed or stopped.

Addresses are keyed hashes here, and are deleted after a day; those of stopped addresses after a year.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, delete, func, insert, select, text, true, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.problems import MailStopped, QuotaExceeded
from momalisa_api.store.engine import insert_into, transaction
from momalisa_api.store.notices import NoticeKind, insert_notice
from momalisa_api.store.tables import mail_stops, notice_charges, notices

_DAY: Final = timedelta(days=1)
STOPPED_FOR: Final = timedelta(days=365)
CONFIRMATIONS_PER_ADDRESS: Final = 1
CONFIRMATIONS_PER_OWNER: Final = 3
CONFIRMATIONS_PER_NETWORK: Final = 10
CONFIRMATIONS_IN_ALL: Final = 1000
STOPPED: Final = "This address gets no mail from here, because its owner stopped it. Use another address."


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who requests a notice. network: keyed hash; address: keyed hash of the mail address, empty for webhooks."""

    owner: str
    network: str
    address: str = ""


class NoticeBook:
    """Accepts notices. Everything raises CatalogueUnavailable."""

    def __init__(self, engine: AsyncEngine, per_owner: int, owners_per_network: int = 5) -> None:
        """per_owner: notices that one owner may request in 24 hours; owners_per_network: how many times as many those
        of one network may, unless they have API keys.
        """
        self._engine = engine
        self._per_owner = per_owner
        self._per_network = per_owner * owners_per_network

    async def add(
        self,
        walk_id: str,
        kind: NoticeKind,
        target: str,
        applicant: Applicant,
        *,
        secret: str | None = None,
        verified: bool = False,
    ) -> str:
        """Record a notice about a walk that the applicant requested, and return its id.

        verified: whether an identity provider knows that the address is the applicant's, who may then undo a stop.
        Raises NotOwner, QuotaExceeded, MailStopped.
        """
        async with transaction(self._engine) as connection:
            await _one_at_a_time(connection)
            await self._refuse_stopped(connection, applicant.address, verified)
            added = await insert_notice(connection, walk_id, applicant.owner, kind, target, secret)
            # The exception of an exceeded limit takes the notice back.
            await self._charge(connection, kind, applicant)
        return added

    async def knows(self, applicant: Applicant) -> bool:
        """Whether the applicant has confirmed the address in the last 24 hours, or got mail there."""
        query = select(notice_charges.c.number).where(_same(applicant), notice_charges.c.confirmed)
        async with transaction(self._engine) as connection:
            return await connection.scalar(query.limit(1)) is not None

    async def confirm(self, walk_id: str, target: str, applicant: Applicant) -> bool:
        """Confirm an address, once, and record the mail about the walk. Returns False if the applicant did before.

        Raises MailStopped, and NotOwner if the request was withdrawn meanwhile.
        """
        pending = update(notice_charges).where(_same(applicant), ~notice_charges.c.confirmed)
        async with transaction(self._engine) as connection:
            await self._refuse_stopped(connection, applicant.address, False)
            if not (await connection.execute(pending.values(confirmed=True))).rowcount:
                return False
            await insert_notice(connection, walk_id, applicant.owner, NoticeKind.MAIL, target)
        return True

    async def stop(self, target: str, address: str) -> None:
        """Send no more mail to an address, for a year. address: its keyed hash."""
        row = {"address": address, "stopped_at": datetime.now(UTC)}
        async with transaction(self._engine) as connection:
            await connection.execute(insert_into(self._engine, mail_stops).values(row).on_conflict_do_nothing())
            same = notice_charges.c.address == address
            await connection.execute(update(notice_charges).where(same).values(confirmed=False))
            await connection.execute(delete(notices).where(func.lower(notices.c.target) == target.lower()))

    async def prune(self) -> None:
        """Delete what is older than a day, and stops that are older than a year."""
        now = datetime.now(UTC)
        async with transaction(self._engine) as connection:
            await connection.execute(delete(notice_charges).where(notice_charges.c.charged_at <= now - _DAY))
            await connection.execute(delete(mail_stops).where(mail_stops.c.stopped_at <= now - STOPPED_FOR))

    async def _refuse_stopped(self, connection: AsyncConnection, address: str, verified: bool) -> None:
        same = mail_stops.c.address == address
        if verified:
            await connection.execute(delete(mail_stops).where(same))
        elif await connection.scalar(select(mail_stops.c.address).where(same)):
            raise MailStopped(STOPPED)

    async def _charge(self, connection: AsyncConnection, kind: NoticeKind, applicant: Applicant) -> None:
        """Count a notice. Raises QuotaExceeded."""
        now, confirming = datetime.now(UTC), kind is NoticeKind.CONFIRM
        row = {
            "owner": applicant.owner,
            "network": applicant.network,
            "kind": kind,
            "address": applicant.address,
            # Mail is only accepted for addresses that are confirmed.
            "confirmed": kind is NoticeKind.MAIL,
            "charged_at": now,
        }
        await connection.execute(insert(notice_charges).values(row))
        same_kind = (notice_charges.c.kind == NoticeKind.CONFIRM) == confirming
        today = same_kind & (notice_charges.c.charged_at > now - _DAY)
        load = select(func.count(), func.min(notice_charges.c.charged_at))
        for which, most, what in self._limits(confirming, applicant):
            count, first = (await connection.execute(load.where(today, which))).one()
            if count > most:
                raise _exceeded(f"Daily limit of {most:,} {what} reached.", first.replace(tzinfo=UTC) + _DAY, now)

    def _limits(self, confirming: bool, applicant: Applicant) -> list[tuple[ColumnElement[bool], int, str]]:
        of_owner = notice_charges.c.owner == applicant.owner
        of_network = notice_charges.c.network == applicant.network
        if not confirming:
            theirs = (of_owner, self._per_owner, "mails and webhooks")
            shared = (of_network, self._per_network, "mails and webhooks from your network")
            return [theirs] if applicant.owner.startswith("key:") else [theirs, shared]
        to_address = notice_charges.c.address == applicant.address
        return [
            (to_address, CONFIRMATIONS_PER_ADDRESS, "confirmation mail to this address"),
            (of_owner, CONFIRMATIONS_PER_OWNER, "confirmation mails"),
            (of_network, CONFIRMATIONS_PER_NETWORK, "confirmation mails from your network"),
            (true(), CONFIRMATIONS_IN_ALL, "confirmation mails of this deployment"),
        ]


def _same(applicant: Applicant) -> ColumnElement[bool]:
    return (notice_charges.c.owner == applicant.owner) & (notice_charges.c.address == applicant.address)


async def _one_at_a_time(connection: AsyncConnection) -> None:
    """Lock out other new notices until the transaction ends, as limits are computed from the current ones."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('momalisa notices'))"))


def _exceeded(what: str, opens: datetime, now: datetime) -> QuotaExceeded:
    left_s = max(1, round((opens - now).total_seconds()))
    return QuotaExceeded(f"{what} It resets at {opens:%Y-%m-%d %H:%M} UTC.", left_s)
