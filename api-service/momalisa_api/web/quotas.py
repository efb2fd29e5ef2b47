"""Quotas: how many walks and frames the deployment and one owner may request, so that no accepted walk is dropped."""

from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from momalisa_api.problems import QueueFull, QuotaExceeded
from momalisa_api.settings import Settings
from momalisa_api.store.fair_queue import load_of, waiting

DAY = timedelta(days=1)


class Quotas:
    """Refuses a walk before it is accepted. A walk that exists already costs nothing and is never refused."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def check(self, connection: AsyncConnection, owner: str, frames: int) -> None:
        """Check that an owner may start a walk of `frames` frames. Raises QueueFull, QuotaExceeded."""
        queued = await waiting(connection)
        if queued >= self._settings.max_queued_walks:
            raise QueueFull(f"{queued:,} walks are queued, which is the limit. Retry in a minute.", retry_after_s=60)
        now = datetime.now(UTC)
        load = await load_of(connection, owner, now - DAY)
        most = self._settings.max_walks_per_owner
        if load.open_walks >= most:
            raise QuotaExceeded(
                f"You have {load.open_walks} unfinished walks, and the limit is {most}. Wait until one is finished.", 10
            )
        a_day = self._settings.frames_per_owner_per_day
        if load.frames + frames > a_day:
            opens = (load.first_request or now) + DAY
            left_s = max(1, round((opens - now).total_seconds()))
            raise QuotaExceeded(
                f"Daily limit of {a_day:,} frames reached: you requested {load.frames:,}. "
                f"It resets at {opens:%Y-%m-%d %H:%M} UTC.",
                left_s,
            )
