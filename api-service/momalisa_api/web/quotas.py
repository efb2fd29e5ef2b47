"""How much may be asked for at once, so that nothing that is taken in is ever dropped."""

from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from momalisa_api.problems import BudgetSpent, TooManyWaiting
from momalisa_api.settings import Settings
from momalisa_api.store.fair_queue import load_of, waiting

DAY = timedelta(days=1)


class Quotas:
    """Says no before a walk is taken in. A walk that is known already costs nothing and is never refused."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def check(self, connection: AsyncConnection, owner: str, frames: int) -> None:
        """Whether an owner may start a walk of so many frames. Raises TooManyWaiting, BudgetSpent."""
        in_line = await waiting(connection)
        if in_line >= self._settings.max_waiting:
            raise TooManyWaiting(f"{in_line} walks are in line already. Ask again in a minute.", retry_after_s=60)
        now = datetime.now(UTC)
        load = await load_of(connection, owner, now - DAY)
        most = self._settings.max_walks_per_owner
        if load.open_walks >= most:
            raise BudgetSpent(f"You have {load.open_walks} walks on their way, and {most} may be. Wait for one.", 10)
        a_day = self._settings.frames_per_owner_per_day
        if load.frames + frames > a_day:
            opens = (load.first_ask or now) + DAY
            left_s = max(1, round((opens - now).total_seconds()))
            raise BudgetSpent(
                f"{a_day} frames a day may be asked for, and {load.frames} were. "
                f"More opens up at {opens:%Y-%m-%d %H:%M} UTC.",
                left_s,
            )
