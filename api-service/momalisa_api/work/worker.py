"""A worker: takes jobs off the queue, gives them to the studio, and sees to it that none is forgotten."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import uuid4

import anyio
import anyio.to_thread
import structlog

from momalisa_api.films import films
from momalisa_api.fleet.fleet import Replicas
from momalisa_api.metrics import Metrics
from momalisa_api.problems import Problem, Unavailable, WalkFailed, WalkUnknown
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.progress import Progress
from momalisa_api.store.queue import Job, Kind, NotNow, Queue
from momalisa_api.store.workers import Fleet, Roster
from momalisa_api.walks.walk import Standing, Walk
from momalisa_api.work.studio import Studio

log = structlog.get_logger()

MAX_TRIES: Final = 5
# Plans and films must not wait behind shards that wait for a replica.
PLANS_AND_FILMS_IN_HAND: Final = 4
OUTDATED_LOOK_S: Final = 0.3
REPORT_S: Final = 5.0
REPORT_LOOK_S: Final = 0.5
TROUBLE_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
RELEASE_PAUSE_S: Final = 0.5
PRUNE_S: Final = 3600.0
DRAIN_S: Final = 6.0


class Worker:
    """One process that renders. Any number of them share a queue."""

    def __init__(
        self,
        studio: Studio,
        catalogue: Catalogue,
        progress: Progress,
        roster: Roster,
        queue: Queue,
        replicas: Replicas,
        metrics: Metrics,
        *,
        shards_in_hand: int,
        reconcile_s: float,
    ) -> None:
        """shards_in_hand: shards on their way at a time; reconcile_s: seconds between two looks for lost jobs."""
        self.id = uuid4().hex
        self._studio = studio
        self._catalogue = catalogue
        self._progress = progress
        self._roster = roster
        self._queue = queue
        self._replicas = replicas
        self._metrics = metrics
        self._shards_in_hand = shards_in_hand
        self._reconcile_s = reconcile_s
        self._in_hand: dict[anyio.CancelScope, Job] = {}
        self._going_home = False
        self._home = anyio.Event()
        self._troubles: dict[str, int] = {}
        self._reported: Fleet | None = None
        self._reported_at = float("-inf")

    async def run(self) -> None:
        """Work until `stop`, or until cancelled."""
        # Loading the encoders holds up the whole process, from a cold disk for seconds: with jobs in hand, their leases
        # would run out.
        await anyio.to_thread.run_sync(films.can_make_video)
        async with anyio.create_task_group() as tasks:
            for every_s, act in (
                (self._reconcile_s, self._reconcile),
                (OUTDATED_LOOK_S, self._drop_outdated),
                (REPORT_LOOK_S, self._report),
                (PRUNE_S, self._queue.prune),
            ):
                tasks.start_soon(_again_and_again, every_s, act)
            tasks.start_soon(self._replicas.run)
            async with anyio.create_task_group() as lines:
                renders, others = {Kind.RENDER: self._do}, dict.fromkeys((Kind.PLAN, Kind.MEASURE, Kind.FILM), self._do)
                lines.start_soon(self._queue.run, renders, self._shards_in_hand)
                lines.start_soon(self._queue.run, others, PLANS_AND_FILMS_IN_HAND)
            tasks.cancel_scope.cancel()
        self._home.set()

    def stop(self) -> None:
        """Take no more jobs, and give those in hand back at once, for other workers."""
        self._going_home = True
        self._queue.end()
        for scope in self._in_hand:
            scope.cancel()

    async def gone_home(self) -> None:
        """Wait until nothing is in hand, some seconds at most."""
        with anyio.move_on_after(DRAIN_S, shield=True):
            await self._home.wait()
            await self._roster.leave(self.id)

    async def _do(self, job: Job) -> None:
        """One job, once. Raises NotNow, and nothing else: then the job goes back into the queue."""
        with anyio.CancelScope() as scope, self._holding(job, scope):
            if self._going_home:
                scope.cancel()
            try:
                await self._try(job)
                self._troubles.pop(job.walk_id, None)
            except WalkUnknown:
                return
            except Unavailable as away:
                raise NotNow(str(away), self._pause_s(job)) from away
        if scope.cancelled_caught and self._going_home:
            raise NotNow("this worker goes home", 0)

    def _pause_s(self, job: Job) -> float:
        """Longer each time that a walk meets trouble: frames that cannot be stored are rendered for nothing."""
        times = self._troubles[job.walk_id] = self._troubles.get(job.walk_id, 0) + 1
        return min(LONGEST_PAUSE_S, TROUBLE_PAUSE_S * 1.5 ** (times - 1))

    async def _try(self, job: Job) -> None:
        walk = await self._catalogue.get(job.walk_id)
        if not _is_due(job, walk):
            return
        claim = _Claim()
        try:
            await self._studio.do(job, walk, partial(self._begin, job, claim))
        except Unavailable:
            raise
        except Problem as problem:
            await self._studio.fail(walk, str(problem))
        except Exception:
            log.exception("walk broke", walk=walk.id)
            await self._studio.fail(walk, "Something broke while the walk was made; the operator's log says what.")
        finally:
            if claim.made:
                with anyio.CancelScope(shield=True):
                    await self._release(job)

    async def _begin(self, job: Job, claim: "_Claim") -> None:
        """Claim a job, once its work begins: who dies while it merely waits has not died of it.

        Raises WalkFailed for a walk that loses one worker after another.
        """
        if claim.made:
            return
        claim.made = True
        if not await self._roster.claim(job.key, job.walk_id, self.id):
            return
        self._metrics.takeovers.inc()
        log.warning("job taken over from a lost worker", job=job.key)
        tries = (await self._catalogue.get(job.walk_id)).tries
        if tries >= MAX_TRIES:
            raise WalkFailed(f"{tries} workers died over this walk. Ask for a smaller one.")

    async def _release(self, job: Job) -> None:
        """A claim that stayed would count as a lost worker, so it is taken back however long the catalogue is away."""
        while True:
            try:
                return await self._roster.release(job.key, self.id)
            except Unavailable:
                await anyio.sleep(RELEASE_PAUSE_S)

    @contextmanager
    def _holding(self, job: Job, scope: anyio.CancelScope) -> Iterator[None]:
        self._in_hand[scope] = job
        try:
            yield
        finally:
            del self._in_hand[scope]

    async def _drop_outdated(self) -> None:
        """Stop what nobody asks for any more, or not in this plan, whichever process was told."""
        if not self._in_hand:
            return
        # Those that come while we ask are looked at the next time. Planning is outdated by itself, before what it plans
        # is in line, and soon over.
        planning = (Kind.PLAN, Kind.MEASURE)
        held = [(scope, job) for scope, job in self._in_hand.items() if job.kind not in planning]
        there = await self._progress.standings({job.walk_id for _, job in held})
        for scope, job in held:
            if job.walk_id not in there or not _is_due(job, there[job.walk_id]):
                scope.cancel()

    async def _reconcile(self) -> None:
        """Put in line what open walks lack and the queue has lost; at the start that is all there is."""
        for walk in await self._catalogue.open_walks():
            await self._studio.put_in_line(walk)

    async def _report(self) -> None:
        """Tell the other processes what this one sees of the replicas, when it changes and every few seconds."""
        seen = Fleet(self._replicas.awake, self._replicas.shard_s)
        if seen != self._reported or anyio.current_time() - self._reported_at > REPORT_S:
            await self._roster.report(self.id, seen)
            self._reported, self._reported_at = seen, anyio.current_time()


@dataclass
class _Claim:
    """Whether a job's work has begun."""

    made: bool = False


def _is_due(job: Job, walk: Walk | Standing) -> bool:
    """Whether a job is still one of its walk's: another plan has other shards."""
    return not walk.ended and job.plan == walk.plans and walk.planned is (job.kind is not Kind.PLAN)


async def _again_and_again(every_s: float, act: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await act()
        except Unavailable:
            pass  # said in the log by the door that found it shut
        except Exception:
            log.exception("broke, and is tried again", act=getattr(act, "__name__", act))
        await anyio.sleep(every_s)
