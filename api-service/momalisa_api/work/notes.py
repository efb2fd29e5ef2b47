"""Records stored frames in the catalogue in batches: while one is being recorded, the frames of the next gather.

So the first frame is recorded at once, and frames that arrive together need one transaction.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import anyio

from momalisa_api.store.progress import Progress
from momalisa_api.walks.walk import Walk


@dataclass(eq=False)
class _Batch:
    """Numbers of points to record together. error: why they were not, if they were not."""

    numbers: set[int] = field(default_factory=set)
    over: bool = False
    error: Exception | None = None


class Notes:
    """The batches of a worker, for each walk and plan."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._gathering: dict[tuple[str, int], _Batch] = {}
        self._turns: WeakValueDictionary[tuple[str, int], anyio.Lock] = WeakValueDictionary()

    async def stored(self, walk: Walk, numbers: Iterable[int]) -> None:
        """Record points of a walk's plan whose frames are stored. Returns when they are recorded.

        Raises CatalogueUnavailable.
        """
        plan = walk.id, walk.plans
        batch = self._gathering.setdefault(plan, _Batch())
        batch.numbers.update(numbers)
        async with self._turns.setdefault(plan, anyio.Lock()):
            # A task that was cancelled while it recorded a batch leaves it to the next one.
            if not batch.over:
                if self._gathering.get(plan) is batch:
                    del self._gathering[plan]
                await self._record(walk, batch)
            if batch.error:
                raise batch.error

    async def _record(self, walk: Walk, batch: _Batch) -> None:
        try:
            await self._progress.note_stored(walk, sorted(batch.numbers))
        except Exception as error:
            batch.error = error
        batch.over = True
