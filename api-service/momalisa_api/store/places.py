"""The queue and the replicas as they are now, read once for all requests that show walks at the same time.

Each of a thousand visitors who wait looks at their place in the queue, and the places of all are one query.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import anyio

from momalisa_api.concurrency import SingleFlight
from momalisa_api.store.fair_queue import AheadInQueue, FairQueue
from momalisa_api.store.workers import FleetStatuses, WorkerRegistry

# A long queue takes longer to read. The pause between two reads is so many times as long as a read takes, so that
# looking at the queue leaves the database and this process time to work it off.
PAUSE_PARTS: Final = 4
LONGEST_READ_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read. ahead: of each unfinished walk."""

    ahead: Mapping[str, AheadInQueue]
    fleet: FleetStatuses


class Places:
    """Reads the queue for all requests of this process: one read at a time, which begins after the requests for it."""

    def __init__(self, fair_queue: FairQueue, workers: WorkerRegistry) -> None:
        self._fair_queue = fair_queue
        self._workers = workers
        self._reads: SingleFlight[Seen] = SingleFlight()
        self._next_at = 0.0

    async def now(self) -> Seen:
        """What is true at some time after this call. Raises CatalogueUnavailable."""
        return await self._reads.do_next("", self._read)

    async def _read(self) -> Seen:
        await anyio.sleep_until(self._next_at)
        began_at = anyio.current_time()
        try:
            return Seen(await self._fair_queue.positions(), await self._workers.fleet_status())
        finally:
            now = anyio.current_time()
            self._next_at = now + min(LONGEST_READ_PAUSE_S, PAUSE_PARTS * (now - began_at))
