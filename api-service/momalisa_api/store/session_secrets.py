"""The secrets that sign sessions: each is used for a month, and then kept for as long as sessions last."""

import secrets as dice
import time
from datetime import timedelta
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.concurrency import SingleFlight
from momalisa_api.store.engine import insert_into, transaction
from momalisa_api.store.tables import secrets

# Sessions last at most as long, so that the secret of the last period is enough: sign_in_settings.MAX_SESSION_H.
PERIOD_S: Final = timedelta(days=30).total_seconds()
# How long a process may not notice that an operator has ended all sessions.
KNOWN_FOR_S: Final = 60.0
SESSION_SECRETS: Final = "sessions-"


class SessionSecrets:
    """The same secrets in every process of a deployment, and in no other deployment."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._known: tuple[list[str], float] = ([], 0.0)
        self._flight = SingleFlight[list[str]]()

    async def current(self) -> list[str]:
        """The secrets that verify sessions, oldest first: the last one signs. Raises CatalogueUnavailable."""
        known, until = self._known
        if time.monotonic() < until:
            return known
        return await self._flight.do("read", self._read)

    async def _read(self) -> list[str]:
        period = int(time.time() // PERIOD_S)
        names = [f"{SESSION_SECRETS}{number:05}" for number in (period - 1, period)]
        fresh = {"name": names[-1], "value": dice.token_hex(32)}
        old = secrets.c.name.startswith(SESSION_SECRETS) & secrets.c.name.not_in(names)
        async with transaction(self._engine) as connection:
            await connection.execute(insert_into(self._engine, secrets).values(fresh).on_conflict_do_nothing())
            await connection.execute(delete(secrets).where(old))
            query = select(secrets.c.value).where(secrets.c.name.in_(names)).order_by(secrets.c.name)
            found = list((await connection.scalars(query)).all())
        self._known = found, time.monotonic() + KNOWN_FOR_S
        return found


async def end_sessions(engine: AsyncEngine) -> None:
    """Delete the secrets, so that everybody has to sign in again: within a minute, also in running processes."""
    async with transaction(engine) as connection:
        await connection.execute(delete(secrets).where(secrets.c.name.startswith(SESSION_SECRETS)))
