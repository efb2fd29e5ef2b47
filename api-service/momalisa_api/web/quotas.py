"""Quotas: how many walks and frames the deployment, one owner and one network may request.

They are checked before a walk is accepted, so that no accepted walk is dropped.
"""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from momalisa_api.problems import DayFull, QueueFull, QuotaExceeded
from momalisa_api.settings import Settings
from momalisa_api.store.charges import CHARGE_LASTS, Load, account_of, frames_of_day, load_of_account, load_of_network
from momalisa_api.store.fair_queue import waiting

# Until a queue with too many walks may have room.
QUEUE_RETRY_S: Final = 60
WALK_RETRY_S: Final = 10
# Parts of the queue, and of the deployment's frames of a day, that one owner and one network can have at most.
OWNERS_PART: Final = 4
NETWORKS_PART: Final = 2
# Who has walks, and whose they are, in messages.
_OWNER: Final = "You have", "your"
_NETWORK: Final = "Callers at your network address have", "their"


class Quotas:
    """Refuses a walk before it is accepted. A walk that exists already costs nothing and is never refused."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def check(self, connection: AsyncConnection, owner: str, network: str | None, frames: int) -> None:
        """Check that an owner may start a walk that may render `frames` frames: more than it has, if it is even.

        network: keyed hash of the caller's, if its limits apply. Callers without a cookie or an API key count as one
        owner for each network. Raises QueueFull, DayFull, QuotaExceeded.
        """
        now = datetime.now(UTC)
        queued, places = await waiting(connection), self._settings.max_queued_walks
        if queued >= places:
            raise QueueFull(f"{queued:,} walks are queued, which is the limit. Retry in a minute.", QUEUE_RETRY_S)
        await self._check_day(connection, frames, now)
        load = await load_of_account(connection, account_of(owner, network), now)
        self._check_load(load, 1, OWNERS_PART, frames, now, _OWNER)
        if network:
            load = await load_of_network(connection, network, now)
            self._check_load(load, self._settings.owners_per_network, NETWORKS_PART, frames, now, _NETWORK)

    def _check_load(
        self, load: Load, owners: int, part: int, frames: int, now: datetime, names: tuple[str, str]
    ) -> None:
        """Check the load of as many owners, who can have one part of all. Raises QuotaExceeded."""
        they_have, their = names
        walks = min(owners * self._settings.max_walks_per_owner, _part(self._settings.max_queued_walks, part))
        if load.open_walks >= walks:
            raise QuotaExceeded(
                f"{they_have} {load.open_walks:,} unfinished walks, and the limit is {walks:,}. "
                "Wait until one is finished.",
                WALK_RETRY_S,
            )
        a_day = owners * self._settings.frames_per_owner_per_day
        if self._settings.frames_per_day:
            a_day = min(a_day, _part(self._settings.frames_per_day, part))
        if load.frames + frames > a_day:
            opens, retry_s = _reset(load.first, now)
            raise QuotaExceeded(
                f"Daily limit of {a_day:,} frames reached: {their} walks render up to {load.frames:,}. {opens}", retry_s
            )

    async def _check_day(self, connection: AsyncConnection, frames: int, now: datetime) -> None:
        """Check the limit of the whole deployment. Raises DayFull."""
        if not (a_day := self._settings.frames_per_day):
            return
        rendered, first = await frames_of_day(connection, now)
        if rendered + frames > a_day:
            opens, retry_s = _reset(first, now)
            raise DayFull(f"All walks together have reached the daily limit of {a_day:,} frames. {opens}", retry_s)


def _part(whole: int, part: int) -> int:
    """One of so many parts, rounded up: everybody can have one walk."""
    return -(-whole // part)


def _reset(first: datetime | None, now: datetime) -> tuple[str, int]:
    """When the oldest charge ends, as a sentence and in seconds."""
    opens = (first or now) + CHARGE_LASTS
    return f"It resets at {opens:%Y-%m-%d %H:%M} UTC.", max(1, round((opens - now).total_seconds()))
