"""Quotas: how many walks and frames the deployment and one owner may request, so that no accepted walk is dropped."""

from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from momalisa_api.problems import CookieNeeded, QueueFull, QuotaExceeded
from momalisa_api.settings import Settings
from momalisa_api.store.fair_queue import load_of, waiting
from momalisa_api.store.owners import ANONYMOUS

DAY = timedelta(days=1)
# Until a queue with too many walks may have room.
QUEUE_RETRY_S = 60


class Quotas:
    """Refuses a walk before it is accepted. A walk that exists already costs nothing and is never refused."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def check(self, connection: AsyncConnection, owner: str, frames: int, *, known: bool) -> None:
        """Check that an owner may start a walk that may render `frames` frames: more than it has, if it is even.

        Raises QueueFull, QuotaExceeded, CookieNeeded.

        known: whether the caller sent a cookie or an API key. Nothing tells the others apart, so that one of them could
        fill the queue: they get its first half, and one owner a quarter of it.
        """
        queued, places = await waiting(connection), self._settings.max_queued_walks
        if queued >= places:
            raise QueueFull(f"{queued:,} walks are queued, which is the limit. Retry in a minute.", QUEUE_RETRY_S)
        if not known and queued >= (places + 1) // 2:
            raise CookieNeeded(
                "The queue is half full, and the rest of it is for callers with a cookie or an API key. "
                "POST the walk with an API key, or repeat your POST with the cookie that its answer sets.",
                # The answer to a GET sets no cookie, so it has to wait for room.
                retry_after_s=QUEUE_RETRY_S if owner == ANONYMOUS else 1,
            )
        now = datetime.now(UTC)
        load = await load_of(connection, owner, now - DAY)
        most = min(self._settings.max_walks_per_owner, (places + 3) // 4)
        if load.open_walks >= most:
            raise QuotaExceeded(
                f"You have {load.open_walks} unfinished walks, and the limit is {most}. Wait until one is finished.", 10
            )
        a_day = self._settings.frames_per_owner_per_day
        if load.frames + frames > a_day:
            opens = (load.first_request or now) + DAY
            left_s = max(1, round((opens - now).total_seconds()))
            raise QuotaExceeded(
                f"Daily limit of {a_day:,} frames reached: your walks render up to {load.frames:,}. "
                f"It resets at {opens:%Y-%m-%d %H:%M} UTC.",
                left_s,
            )
