"""Places in the queue: read once for all who look at the same time, and never older than a look."""

from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.fair_queue import AheadInQueue, FairQueue
from momalisa_api.store.places import Places
from momalisa_api.store.schema import opened
from momalisa_api.store.workers import WorkerRegistry
from tests.support.factories import spec

pytestmark = pytest.mark.anyio


class SlowQueue(FairQueue):
    """A queue whose readings end when the test says so."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self.readings, self.go_on = 0, anyio.Event()

    async def positions(self) -> dict[str, AheadInQueue]:
        self.readings += 1
        found = await super().positions()
        await self.go_on.wait()
        return found


@pytest.fixture
async def engine(tmp_path) -> AsyncIterator[AsyncEngine]:
    async with opened(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
        yield engine


async def test_a_thousand_who_look_at_their_place_share_two_readings(engine):
    """The first looker's, and one for all who came while it was made."""
    queue = SlowQueue(engine)
    places = Places(queue, WorkerRegistry(engine))
    async with anyio.create_task_group() as tasks:
        for _ in range(1000):
            tasks.start_soon(places.now)
        while not queue.readings:
            await anyio.lowlevel.checkpoint()
        queue.go_on.set()
    assert queue.readings == 2


async def test_a_place_is_never_older_than_the_look_at_it(engine):
    """Whoever has just requested a walk sees its place, also if a reading began before."""
    queue = SlowQueue(engine)
    places, seen = Places(queue, WorkerRegistry(engine)), dict[str, int]()

    async def look(name: str) -> None:
        seen[name] = len((await places.now()).ahead)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look, "before")
        while not queue.readings:
            await anyio.lowlevel.checkpoint()
        await anyio.sleep(0.01)
        await Catalogue(engine).request(spec(), "owner")
        tasks.start_soon(look, "after")
        await anyio.wait_all_tasks_blocked()
        queue.go_on.set()
    assert seen == {"before": 0, "after": 1}
