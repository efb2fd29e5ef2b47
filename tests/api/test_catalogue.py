"""The catalogue on both databases: the same tests on SQLite and on a real PostgreSQL."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import anyio
import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.problems import WalkNotFound
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.engine import open_engine, reading, transaction
from momalisa_api.store.fair_queue import AheadInQueue, FairQueue, one_at_a_time
from momalisa_api.store.gallery import FEW, Gallery
from momalisa_api.store.notifications import Listener, WalkChanges
from momalisa_api.store.progress import Progress
from momalisa_api.store.schema import migrate, opened
from momalisa_api.store.tables import asks, walks
from momalisa_api.walks.rounds import with_growth
from momalisa_api.walks.walk import MOVES, State, Walk
from momalisa_api.web.live import LiveUpdates
from tests.support.factories import spec

pytestmark = pytest.mark.anyio
OWNER = "somebody"
WAITING_FOR_LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


@pytest.fixture
def catalogue(engine: AsyncEngine) -> Catalogue:
    return Catalogue(engine)


@pytest.fixture
def gallery(engine: AsyncEngine) -> Gallery:
    return Gallery(engine)


@pytest.fixture
def progress(engine: AsyncEngine) -> Progress:
    return Progress(engine)


@pytest.fixture
def fair_queue(engine: AsyncEngine) -> FairQueue:
    return FairQueue(engine)


async def test_a_hundred_concurrent_requests_create_one_walk(catalogue):
    """One of them creates it; each request is stored, so that one withdrawal does not affect the others."""
    results = []

    async def request(owner: str) -> None:
        results.append(await catalogue.request(spec(), owner))

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(request, f"owner {number}")
    assert sum(made for _, made in results) == 1
    assert {walk.id for walk, _ in results} == {spec().id}
    assert await catalogue.withdraw(spec().id, "owner 0") == 99


async def test_a_walk_is_read_as_it_was_written(catalogue, progress):
    """Through JSON and back: prompts in any script, warnings, stored frames."""
    request = spec(("a 😀 giraffe", "ein Schiff\n'; DROP TABLE walks;--"), frames=3)
    walk, _ = await catalogue.request(request, OWNER, warnings=["careful"])
    await progress.note_stored(walk, [0, 2])
    await progress.note_stored(walk, [2])
    walk = await catalogue.get(request.id)
    assert (walk.spec, walk.state, walk.stored, walk.warnings) == (request, State.WAITING, {0, 2}, ("careful",))


async def test_an_unknown_walk_is_a_problem(catalogue):
    """Callers would forget to check for None."""
    with pytest.raises(WalkNotFound):
        await catalogue.get("0" * 32)
    with pytest.raises(WalkNotFound):
        await catalogue.withdraw("0" * 32, OWNER)


async def test_of_many_concurrent_moves_one_succeeds(catalogue, progress):
    """The films of a walk are made once, even if several workers find its frames complete at the same moment."""
    await catalogue.request(spec(), OWNER)
    await progress.move(spec().id, State.WAITING, State.RENDERING)
    moved = []

    async def move() -> None:
        moved.append(await progress.move(spec().id, State.RENDERING, State.FILMING))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(move)
    assert moved.count(True) == 1


@pytest.mark.parametrize(("start", "to"), [(a, b) for a in State for b in State if b not in MOVES[a]])
async def test_an_impossible_move_is_refused(start, to):
    """The states and their moves are defined in one place that cannot be bypassed. No database is needed."""
    with pytest.raises(ValueError, match="a walk cannot move"):
        await Progress(open_engine("sqlite:////nowhere")).move("0" * 32, start, to)


async def test_the_revision_increases_with_every_change_and_only_then(catalogue, progress):
    """Watchers and event ids depend on it."""
    walk, _ = await catalogue.request(spec(), OWNER)
    revisions = [walk.revision]
    for change in (
        progress.note_stored(walk, [0]),
        progress.warn(walk.id, ["careful"]),
        progress.move(walk.id, State.WAITING, State.RENDERING),
    ):
        await change
        revisions.append((await catalogue.get(walk.id)).revision)
    assert revisions == [1, 2, 3, 4]
    await progress.note_stored(walk, [0])
    await progress.warn(walk.id, ["careful"])
    await progress.move(walk.id, State.WAITING, State.RENDERING)
    assert (await catalogue.get(walk.id)).revision == 4


async def test_the_gallery_shows_listed_walks_newest_first_and_cursors_stay_valid(catalogue, gallery):
    """While new walks arrive, the next page starts where the last one ended."""
    for seed in range(5):
        await catalogue.request(spec(seed=seed), OWNER)
    await catalogue.request(spec(seed=5), OWNER, listed=False)
    first = await gallery.page(limit=2)
    await catalogue.request(spec(seed=6), OWNER)
    second = await gallery.page(limit=2, before=first.next_cursor)
    last = await gallery.page(limit=2, before=second.next_cursor)
    assert [walk.spec.seed for page in (first, second, last) for walk in page.walks] == [4, 3, 2, 1, 0]
    assert last.next_cursor is None
    mine = await gallery.page(owner=OWNER)
    assert [walk.spec.seed for walk in mine.walks] == [6, 5, 4, 3, 2, 1, 0]


async def test_a_marked_walk_is_not_in_the_gallery_and_has_one_warning(catalogue, gallery, progress):
    """Every frame may have a mark, and a listed request must not undo it. The owner still finds the walk."""
    walk, _ = await catalogue.request(spec(), OWNER, warnings=["careful"])
    for _ in range(2):
        await progress.mark(walk.id, "for a reason")
    marked, made = await catalogue.request(spec(), OWNER, listed=True)
    assert (made, marked.revision, marked.warnings) == (False, walk.revision + 1, ("careful", "for a reason"))
    assert (await gallery.page()).walks == (await gallery.page(owner=OWNER)).walks == ()
    assert [found.id for found in (await gallery.page(owner=OWNER, hidden=True)).walks] == [walk.id]


async def test_no_warning_is_lost_while_frames_are_stored(catalogue, progress, gallery):
    """A warning is added to the existing ones, while the walk changes many times per second."""
    walk, _ = await catalogue.request(spec(frames=25), OWNER)
    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(progress.warn, walk.id, [f"warning {number}"])
            tasks.start_soon(progress.note_stored, walk, [number])
        tasks.start_soon(progress.mark, walk.id, "for a reason")
    found = await catalogue.get(walk.id)
    assert set(found.warnings) == {"for a reason", *(f"warning {number}" for number in range(10))}
    assert (await gallery.page()).walks == ()


@pytest.mark.parametrize(
    ("q", "found"),
    [("GIRAFFE", 1), ("straße", 1), ("STRASSE", 1), ("100%", 1), ("%", 1), ("_", 0), ("\\", 0), ("submarine", 0)],
)
async def test_search_finds_words_in_any_stop_and_has_no_wildcards(catalogue, gallery, q, found):
    """Case is folded as in Unicode; characters of SQL patterns have no special meaning."""
    await catalogue.request(spec(("a giraffe", "eine Straße", "100% blue")), OWNER)
    assert len((await gallery.page(q)).walks) == found


async def queue_of(catalogue: Catalogue) -> list[str]:
    """The walks that wait or are rendered, in the order of the fair queue."""
    return [walk.id async for walk in catalogue.open_walks()]


async def test_unfinished_walks_are_read_in_small_batches(catalogue, url):
    """The reconciler reads them all, and each may have hundreds of frames: the event loop must get its turn."""
    wanted = [(await catalogue.request(spec(seed=seed), f"owner {seed}"))[0].id for seed in range(25)]
    batches: list[int] = []

    class Recorded(Catalogue):
        async def read(self, walk_ids: Iterable[str]) -> dict[str, Walk]:
            found = await super().read(walk_ids)
            batches.append(len(found))
            return found

    async with opened(url) as engine:
        assert await queue_of(Recorded(engine)) == wanted
    assert batches == [10, 10, 5]


async def test_an_owner_finds_few_and_many_walks_alike(catalogue, gallery, url):
    """There are two queries, so that neither reads the whole catalogue; the results must not differ."""
    few = [(await catalogue.request(spec(("a giraffe", "a star"), seed=seed), "few"))[0].number for seed in range(3)]
    async with opened(url) as engine, engine.begin() as connection:
        [row] = (await connection.execute(select(walks).where(walks.c.number == few[0]))).mappings()
        row = {name: value for name, value in row.items() if name not in ("model", "scope")}
        copies = [{**row, "number": few[-1] + copy, "id": f"{copy:032x}"} for copy in range(1, FEW + 1)]
        theirs = {"owner": "many", "listed": False, "asked_at": row["created_at"]}
        await connection.execute(insert(walks), copies)
        await connection.execute(insert(asks), [{**theirs, "walk_id": copy["id"]} for copy in copies])
    many = [copy["number"] for copy in copies]
    for owner, numbers in (("few", few), ("many", many)):
        first = await gallery.page("giraffe", limit=2, owner=owner)
        then = await gallery.page("giraffe", before=first.next_cursor, limit=2, owner=owner)
        assert [walk.number for walk in (*first.walks, *then.walks)] == numbers[::-1][:4]


async def test_each_search_has_its_own_query_plan(catalogue, url):
    """With one generic plan for all words, PostgreSQL would read every walk to find a rare word."""
    if url.startswith("sqlite"):
        pytest.skip("SQLite plans when it prepares")
    async with opened(url) as engine:
        for _ in range(10):
            await Gallery(engine).page("giraffe")
        async with engine.connect() as connection:
            query = "SELECT sum(custom_plans), sum(generic_plans) FROM pg_prepared_statements WHERE statement LIKE :q"
            custom, generic = (await connection.execute(text(query), {"q": "%stops LIKE%"})).one()
    assert (custom, generic) == (10, 0)


async def pending(fair_queue: FairQueue) -> int:
    return sum((await fair_queue.frames_pending()).values())


async def test_the_queue_position_counts_the_walks_ahead(catalogue, progress, fair_queue):
    """Visitors see the position and the number of frames ahead while they wait."""
    first, second, third = [(await catalogue.request(spec(seed=seed, frames=9), OWNER))[0].id for seed in range(3)]
    ahead = {first: AheadInQueue(0, 0, 18), second: AheadInQueue(1, 9, 9), third: AheadInQueue(2, 18, 0)}
    assert await fair_queue.positions() == ahead
    await progress.move(first, State.WAITING, State.RENDERING)
    await progress.note_stored(await catalogue.get(first), range(4))
    ahead = {first: AheadInQueue(0, 0, 18), second: AheadInQueue(0, 5, 9), third: AheadInQueue(1, 14)}
    assert await fair_queue.positions() == ahead
    # Replicas take shards in the order of the queue, whichever walk started first.
    await progress.move(third, State.WAITING, State.RENDERING)
    assert await fair_queue.positions() == ahead
    assert ((await fair_queue.counts())[State.WAITING], await pending(fair_queue)) == (1, 23)
    await progress.move(first, State.RENDERING, State.CANCELLED)
    assert await fair_queue.positions() == {second: AheadInQueue(0, 0, 9), third: AheadInQueue(1, 9)}
    assert ((await fair_queue.counts())[State.WAITING], await pending(fair_queue)) == (1, 18)
    assert await queue_of(catalogue) == [second, third]


async def test_the_frames_of_later_rounds_are_pending_until_the_walk_is_settled(catalogue, progress, fair_queue):
    """The autoscaler keeps replicas for them, and lets them go while the films are made."""
    even = spec(spacing="even")
    walk, _ = await catalogue.request(even, OWNER)
    assert await pending(fair_queue) == 2 * 25, "before it is planned, all that it may render"
    first = with_growth(even, walk.layout, (1.4, 1.8))
    await progress.plan(walk, first, range(5), [list(range(5, 25))])
    assert await pending(fair_queue) == 45 - 5
    settled = first.model_copy(update={"settled": True})
    await progress.plan(await catalogue.get(walk.id), settled, range(25), [])
    assert await pending(fair_queue) == 0


async def test_a_new_owner_does_not_wait_behind_twenty_walks_of_another(catalogue, progress):
    """Turns go to owners, not to walks: a new owner is next after the walks in progress."""
    many = [(await catalogue.request(spec(seed=seed), "many"))[0].id for seed in range(20)]
    await progress.move(many[0], State.WAITING, State.RENDERING)
    newcomer, _ = await catalogue.request(spec(seed=100), "newcomer")
    again, _ = await catalogue.request(spec(seed=101), "newcomer")
    queue = await queue_of(catalogue)
    assert queue[:2] == [many[0], newcomer.id]
    assert queue.index(again.id) <= 3
    assert [walk for walk in queue if walk in many] == many


async def test_a_watcher_sees_changes_by_other_processes(catalogue, url):
    """Another process may render the walk, so watchers follow the database."""
    walk, _ = await catalogue.request(spec(frames=2), OWNER)
    seen = []

    async def follow() -> None:
        snapshot = walk
        while not snapshot.ended and (newer := await watch.newer(walk.id, snapshot.revision)):
            snapshot = newer.walk
            seen.append((snapshot.revision, snapshot.state, len(snapshot.stored), newer.event))

    async def render_events(walks: Sequence[Walk]) -> list[bytes]:
        return [walk.state.encode() for walk in walks]

    async with opened(url) as engine, anyio.create_task_group() as tasks:
        elsewhere = Progress(engine)
        watch = LiveUpdates(catalogue, 0.01, WalkChanges(Listener(engine)))
        tasks.start_soon(watch.run, render_events)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as watchers:
                for _ in range(3):
                    watchers.start_soon(follow)
                await elsewhere.move(walk.id, State.WAITING, State.RENDERING)
                await elsewhere.note_stored(walk, [0, 1])
                await elsewhere.move(walk.id, State.RENDERING, State.FILMING)
                await elsewhere.move(walk.id, State.FILMING, State.DONE, films=["walk.gif"])
        tasks.cancel_scope.cancel()
    assert seen.count((5, State.DONE, 2, b"done")) == 3


async def test_repeated_and_concurrent_migrations_are_harmless(url):
    """Every process of a roll-out may migrate."""
    async with opened(url) as engine, anyio.create_task_group() as tasks:
        tasks.start_soon(migrate, engine)
        if engine.dialect.name == "postgresql":
            tasks.start_soon(migrate, engine)


@pytest.mark.parametrize("strange", ["mysql://somewhere/db", "momalisa.sqlite", ""])
async def test_an_unknown_kind_of_database_is_refused(strange):
    """The error names the supported ones."""
    with pytest.raises(ValueError, match="use sqlite:///FILE or postgresql"):
        open_engine(strange)


async def test_a_request_during_a_withdrawal_keeps_the_walk(catalogue):
    """A walk continues while anyone requests it, even if both happen at the same time."""
    for seed in range(20):
        request = spec(seed=seed)
        await catalogue.request(request, "leaving")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(catalogue.withdraw, request.id, "leaving")
            tasks.start_soon(catalogue.request, request, "coming")
        walk = await catalogue.get(request.id)
        if walk.state is State.CANCELLED:
            # The withdrawal was first: the new request gets a cancelled walk, and can restart it.
            assert await catalogue.restart(walk, "coming", 9)
        assert (await catalogue.get(request.id)).state is State.WAITING


async def test_work_on_an_older_plan_changes_nothing(catalogue, progress):
    """A shard may still be in progress when its walk is cancelled and requested again."""
    await catalogue.request(spec(), OWNER)
    new = await catalogue.get(spec().id)
    assert await progress.plan(new, new.layout, [], [[0, 1]])
    old = await catalogue.get(spec().id)
    await catalogue.withdraw(spec().id, OWNER)
    assert await catalogue.restart(await catalogue.get(spec().id), OWNER, 9)
    assert not await progress.move(spec().id, State.WAITING, State.RENDERING, of_plan=old.plans)
    assert not await progress.move(spec().id, State.WAITING, State.FAILED, of_plan=old.plans, error="late")
    assert (await catalogue.get(spec().id)).state is State.WAITING
    again = await catalogue.get(spec().id)
    assert await progress.plan(again, again.layout, [0], [[1]])
    assert not await progress.plan(again, again.layout, [], [[0, 1]])
    await progress.note_stored(old, [1])
    assert (await catalogue.get(spec().id)).stored == {0}


async def test_a_repeated_request_without_listed_changes_nothing(catalogue, gallery):
    """A plain GET of an unlisted walk must not add it to the gallery."""
    await catalogue.request(spec(), OWNER, listed=False)
    await catalogue.request(spec(), OWNER, listed=None)
    assert (await gallery.page()).walks == ()
    await catalogue.request(spec(seed=1), OWNER, listed=None)
    assert len((await gallery.page()).walks) == 1


async def test_the_extras_of_a_walk_are_recorded_once(catalogue, progress):
    """Each worker that meets them records them, and each change wakes all watchers."""
    walk, _ = await catalogue.request(spec(("a depth map", "a mask")), "me")
    await progress.has_extras(walk.id, ["depth.png", "cutout.png"])
    found = await catalogue.get(walk.id)
    assert (found.extras, found.extras_ready) == (("depth.png", "cutout.png"),) * 2
    await progress.has_extras(walk.id, ["depth.png"])
    assert await catalogue.get(walk.id) == found


async def test_a_layout_that_the_spec_says_takes_no_room(catalogue, progress, url):
    """A clip has hundreds of points, and its row is read for each event. Others are stored as they are."""
    uniform, _ = await catalogue.request(spec(("a layout", "no rounds")), "me")
    even, _ = await catalogue.request(spec(("a layout", "in rounds"), spacing="even"), "me")
    async with opened(url) as engine:
        for walk in (uniform, even):
            layout = walk.layout.model_copy(update={"growth": (1.0,)}) if walk is even else walk.layout
            assert await progress.plan(walk, layout, [0], [[1]])
            assert (await catalogue.get(walk.id)).layout == layout
        async with engine.connect() as connection:
            rows = (await connection.execute(select(walks.c.id).where(walks.c.layout.is_(None)))).scalars().all()
    assert uniform.id in rows
    assert even.id not in rows


async def test_new_walks_that_wait_for_each_other_leave_the_database_to_those_who_look(emptied):
    """A connection for each of a burst of new walks would be all that a process has."""
    async with opened(emptied) as engine, engine.connect() as another:
        catalogue = Catalogue(engine)
        walk, _ = await catalogue.request(spec(seed=1), OWNER)
        await one_at_a_time(another)
        async with anyio.create_task_group() as tasks:
            for seed in range(2, 32):
                tasks.start_soon(catalogue.request, spec(seed=seed), OWNER)
            try:
                with anyio.fail_after(5):
                    # Those who wait get as far as they can meanwhile.
                    for _ in range(40):
                        assert (await catalogue.get(walk.id)).id == walk.id
                    assert await another.scalar(text(WAITING_FOR_LOCKS)) == 1
            finally:
                await another.rollback()
        assert await catalogue.count_open(walk.spec.model) == 31


async def test_a_reading_takes_no_transaction_and_leaves_none_out(emptied):
    """Its messages to PostgreSQL are a third. The same connection is used for transactions afterwards."""

    async def times(connection: AsyncConnection) -> set[datetime]:
        """When the transactions of three queries began."""
        return {await connection.scalar(text("SELECT now()")) for _ in range(3)}

    async with opened(emptied) as engine:
        for _ in range(2):
            async with reading(engine) as connection:
                assert len(await times(connection)) == 3
            async with transaction(engine) as connection:
                assert len(await times(connection)) == 1
