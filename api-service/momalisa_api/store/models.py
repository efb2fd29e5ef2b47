"""The registry of models in the catalogue. Replicas bring models, operators choose a default and retire them.

A model has one row, with the card that new walks get. Walks carry their own revision, so the former cards of a model
are not kept.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import anyio
import structlog
from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.concurrency import SingleFlight
from momalisa_api.problems import CatalogueUnavailable
from momalisa_api.store.engine import insert_into, reading, transaction
from momalisa_api.store.tables import models
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.models import ANY, Models, RegisteredModel

# How often it is stored that a model has replicas awake, and after what time it counts as having none.
NOTED: Final = timedelta(seconds=20)
SEEN: Final = timedelta(seconds=60)
# A shard's duration is stored when it has changed by this share.
SPEED_CHANGE: Final = 0.2

log = structlog.get_logger()


_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class UnknownModel(Exception):
    """No model of this name is registered."""


class ModelRegistry:
    """The registered models, kept for some seconds. Everything that writes raises CatalogueUnavailable."""

    def __init__(
        self,
        engine: AsyncEngine,
        named: Sequence[str] = (ANY,),
        fixed: ModelCard | None = None,
        kept_s: float = 2.0,
    ) -> None:
        """named, fixed: see Models.

        kept_s: age in seconds after which the models are read again: so long, changes by other processes are not seen.
        """
        self._engine = engine
        self._restricted = partial(Models, named=tuple(named), fixed=fixed)
        self._fixed = fixed
        self.kept_s = kept_s
        self._known = self._restricted()
        self._read_at = float("-inf")
        self._reads: SingleFlight[Models] = SingleFlight()
        self._unreadable = set[str]()
        self._noted: dict[str, tuple[datetime, float | None, frozenset[str] | None]] = {}

    @property
    def known(self) -> Models:
        """The models as they were last read."""
        return self._known

    async def current(self) -> Models:
        """The models, some seconds old at most. In an outage of the catalogue, the last known ones.

        Raises CatalogueUnavailable if none are known.
        """
        if self._known.registered and anyio.current_time() - self._read_at < self.kept_s:
            return self._known
        try:
            return await self._reads.do("", self.refresh)
        except CatalogueUnavailable:
            if not self._known.registered:
                raise
            return self._known

    async def refresh(self) -> Models:
        """Read the models now."""
        began_at = anyio.current_time()
        async with reading(self._engine) as connection:
            rows = (await connection.execute(select(models).order_by(models.c.registered_at, models.c.name))).all()
        self._known = self._restricted([model for row in rows if (model := self._read(row))])
        self._read_at = began_at
        return self._known

    async def start(self) -> None:
        """Register the card of the file, if there is one, and read the models.

        With SQLite there is one process: what the last one saw awake has ended, or is noted again.
        """
        if self._fixed:
            await self._store(self._fixed)
        if self._engine.dialect.name == "sqlite":
            async with transaction(self._engine) as connection:
                await connection.execute(update(models).values(seen_at=None))
        await self.refresh()

    async def register(self, card: ModelCard, instead_of: ModelCard | None = None) -> None:
        """Register a new model, or a new card of one.

        instead_of: the card to replace. Does nothing if another process has registered another card meanwhile.
        """
        await self._store(card, instead_of)
        await self.refresh()

    async def choose_default(self, name: str) -> None:
        """Make a model the default. Raises UnknownModel."""
        async with transaction(self._engine) as connection:
            await self._change(connection, name, is_default=True)
            await connection.execute(update(models).where(models.c.name != name).values(is_default=False))
        await self.refresh()

    async def retire(self, name: str, *, retired: bool = True) -> None:
        """Have no new walks use a model, or let them use it again. Raises UnknownModel."""
        async with transaction(self._engine) as connection:
            await self._change(connection, name, retired=retired)
        await self.refresh()

    async def note_awake(self, name: str, shard_s: float | None, features: frozenset[str] | None = None) -> None:
        """Record now and then that a model has replicas awake.

        shard_s: how many seconds they take for a shard; features: of any of them. Each is None if it is not known.
        """
        now, (at, before_s, had) = datetime.now(UTC), self._noted.get(name, (_NEVER, None, None))
        faster = shard_s is not None and (before_s is None or abs(shard_s / before_s - 1) > SPEED_CHANGE)
        if now - at < NOTED and not faster and features == had:
            return
        changes: dict[str, Any] = {"seen_at": now} | ({} if shard_s is None else {"shard_s": shard_s})
        if features is not None:
            changes["features"] = sorted(features)
        async with transaction(self._engine) as connection:
            await connection.execute(update(models).where(models.c.name == name).values(**changes))
        self._noted[name] = now, shard_s, features
        if (found := self._known.get(name)) and not found.seen:
            # It may be the default now.
            await self.refresh()

    async def _store(self, card: ModelCard, instead_of: ModelCard | None = None) -> None:
        row = {"name": card.model, "card": card.model_dump(mode="json")}
        new = {**row, "registered_at": datetime.now(UTC), "retired": False, "is_default": False}
        same = models.c.name == card.model
        async with transaction(self._engine) as connection:
            inserted = await connection.execute(insert_into(self._engine, models).values(new).on_conflict_do_nothing())
            # Locked, so that the card cannot change between this and the update.
            stored = (await connection.execute(select(models).where(same).with_for_update())).one()
            before = self._read(stored)
            changes = stored.card != row["card"] and (
                card is self._fixed or before is None or before.card == instead_of
            )
            if changes:
                await connection.execute(update(models).where(same).values(**row))
        if inserted.rowcount or changes:
            log.info("model registered", model=card.model, revision=card.revision)

    async def _change(self, connection: AsyncConnection, name: str, **columns: Any) -> None:
        changed = await connection.execute(update(models).where(models.c.name == name).values(**columns))
        if not changed.rowcount:
            known = (await connection.scalars(select(models.c.name).order_by(models.c.name))).all()
            listed = ", ".join(known) or "none"
            raise UnknownModel(f"There is no model named {name!r}. Registered: {listed}.")

    def _read(self, row: Row[Any]) -> RegisteredModel | None:
        """The model of a row; None if this release cannot read its card."""
        try:
            card = ModelCard.model_validate(row.card)
        except ValueError as error:
            if row.name not in self._unreadable:
                self._unreadable.add(row.name)
                log.error("card of a model cannot be read", model=row.name, reason=str(error))
            return None
        seen = row.seen_at is not None and datetime.now(UTC) - row.seen_at.replace(tzinfo=UTC) < SEEN
        features = None if row.features is None else frozenset(row.features)
        return RegisteredModel(
            card, bool(row.retired), bool(row.is_default), seen=seen, shard_s=row.shard_s, features=features
        )
