"""A worker: takes jobs from the queue, has the studio do them, and puts lost jobs back into the queue."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import uuid4

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup

from momalisa_api.backoff import delay_s, repeat_forever, retry_forever
from momalisa_api.films import films
from momalisa_api.fleet.fleet import Fleet
from momalisa_api.metrics import Metrics
from momalisa_api.problems import Gone, Problem, Unavailable, WalkFailed, WalkNotFound
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.models import ModelRegistry
from momalisa_api.store.notifications import WalkChanges
from momalisa_api.store.progress import Progress
from momalisa_api.store.queue import Job, Kind, Queue, RetryLater
from momalisa_api.store.workers import FleetStatus, WorkerRegistry
from momalisa_api.walks.walk import Walk, WalkStatus
from momalisa_api.work.studio import Studio

log = structlog.get_logger()

MAX_TRIES: Final = 5
# The replicas of a walk are idle while it is planned: plans wait neither for shards nor for films, which take turns.
MAX_PLANS_IN_FLIGHT: Final = 8
MAX_FILMS_IN_FLIGHT: Final = 2
# Pause between two checks: every stored frame changes a walk, and few changes end jobs.
DROP_OUTDATED_S: Final = 0.25
REPORT_S: Final = 5.0
REPORT_CHECK_S: Final = 0.5
FIRST_TROUBLE_PAUSE_S: Final = 1.0
LONGEST_TROUBLE_PAUSE_S: Final = 30.0
TROUBLE_FACTOR: Final = 1.5
FIRST_RELEASE_PAUSE_S: Final = 0.5
LONGEST_PAUSE_IN_OUTAGE_S: Final = 2.0
PRUNE_S: Final = 3600.0
DROP_CLIPS_S: Final = 60.0
# Walks whose jobs are put into the queue in one statement; each can have hundreds.
WALKS_RECONCILED_AT_ONCE: Final = 25
DRAIN_S: Final = 6.0


class Worker:
    """One process that renders and makes films. Any number of workers share a queue."""

    def __init__(
        self,
        studio: Studio,
        catalogue: Catalogue,
        progress: Progress,
        registry: WorkerRegistry,
        models: ModelRegistry,
        queue: Queue,
        fleet: Fleet,
        metrics: Metrics,
        changes: WalkChanges,
        *,
        max_shards_in_flight: int,
        reconcile_s: float,
        poll_s: float,
    ) -> None:
        """max_shards_in_flight: shards of a model in progress at a time; reconcile_s: seconds between two checks for
        lost jobs; poll_s: between two checks for jobs that are outdated, while no notification arrives.
        """
        self.id = uuid4().hex
        self._studio = studio
        self._catalogue = catalogue
        self._progress = progress
        self._registry = registry
        self._models = models
        self._queue = queue
        self._fleet = fleet
        self._metrics = metrics
        self._changes = changes
        self._max_shards_in_flight = max_shards_in_flight
        self._reconcile_s = reconcile_s
        self._poll_s = poll_s
        self._in_flight: dict[anyio.CancelScope, Job] = {}
        self._stopping = False
        self._stopped = anyio.Event()
        self._troubles: dict[str, int] = {}
        self._runners: TaskGroup | None = None
        self._rendered = set[str]()
        self._reported: tuple[int, dict[str, FleetStatus]] | None = None
        self._reported_at = float("-inf")

    async def run(self) -> None:
        """Work until `stop`, or until cancelled."""
        # Loading the encoders blocks the whole process, for seconds with a cold disk cache: the leases of jobs in
        # progress would expire.
        await anyio.to_thread.run_sync(films.can_make_video)
        async with anyio.create_task_group() as tasks:
            for name, act, every_s in (
                ("reconcile", self._reconcile, self._reconcile_s),
                ("drop outdated jobs", self._drop_outdated, DROP_OUTDATED_S),
                ("report", self._report, REPORT_CHECK_S),
                ("read the models", self._read_models, self._models.kept_s),
                ("prune the queue's log", self._queue.prune, PRUNE_S),
                ("drop unused clips", self._studio.drop_unused_clips, DROP_CLIPS_S),
            ):
                failed = partial(_log_failure, name)
                tasks.start_soon(
                    partial(repeat_forever, act, every_s, longest_s=LONGEST_PAUSE_IN_OUTAGE_S, failed=failed)
                )
            tasks.start_soon(self._fleet.run)
            try:
                async with anyio.create_task_group() as self._runners:
                    self._run_queue(self._runners)
            finally:
                self._runners = None
            tasks.cancel_scope.cancel()
        self._stopped.set()

    def _run_queue(self, runners: TaskGroup) -> None:
        """Take jobs of all kinds; `_render_shards_of` adds the shards of each model."""
        for kinds, most in (
            # Shards that processes of the last release have queued.
            ((Kind.RENDER,), self._max_shards_in_flight),
            ((Kind.PLAN, Kind.MEASURE), MAX_PLANS_IN_FLIGHT),
            ((Kind.FILM,), MAX_FILMS_IN_FLIGHT),
        ):
            runners.start_soon(self._queue.run, dict.fromkeys(kinds, self._do), most)

    def _render_shards_of(self, model: str) -> None:
        """Take shards of a model, too. Each has its own number in flight: slow ones must not hold up other models."""
        if self._runners and not self._stopping and model not in self._rendered:
            self._rendered.add(model)
            handlers = {Kind.RENDER: self._do}
            self._runners.start_soon(self._queue.run, handlers, self._max_shards_in_flight, model)

    def stop(self) -> None:
        """Take no more jobs, and return those in progress to the queue at once, for other workers."""
        self._stopping = True
        self._queue.end()
        for scope in self._in_flight:
            scope.cancel()

    async def wait_stopped(self) -> None:
        """Wait until no job is in progress, at most `DRAIN_S` seconds, then leave the worker registry."""
        with anyio.move_on_after(DRAIN_S, shield=True):
            await self._stopped.wait()
            await self._registry.leave(self.id)

    async def _do(self, job: Job) -> None:
        """Do one job once. Raises only RetryLater: the job goes back into the queue."""
        with anyio.CancelScope() as scope, self._tracked(job, scope):
            if self._stopping:
                scope.cancel()
            try:
                await self._try(job)
                self._troubles.pop(job.walk_id, None)
            except (WalkNotFound, Gone):
                return
            except Unavailable as unavailable:
                raise RetryLater(str(unavailable), self._pause_s(job)) from unavailable
        if scope.cancelled_caught and self._stopping:
            raise RetryLater("this worker stops", 0)

    def _pause_s(self, job: Job) -> float:
        """Seconds before the next try, longer with each failure of a walk: frames that cannot be stored are wasted."""
        troubles = self._troubles[job.walk_id] = self._troubles.get(job.walk_id, 0) + 1
        return delay_s(troubles, FIRST_TROUBLE_PAUSE_S, LONGEST_TROUBLE_PAUSE_S, TROUBLE_FACTOR)

    async def _try(self, job: Job) -> None:
        walk = await self._catalogue.get(job.walk_id)
        if not _is_due(job, walk):
            return
        self._render_shards_of(walk.spec.model)
        claim = _Claim()
        try:
            await self._studio.do(job, walk, partial(self._begin, job, claim))
        except Unavailable:
            raise
        except Problem as problem:
            await self._studio.fail(walk, str(problem))
        except Exception:
            log.exception("walk failed with an unexpected error", walk=walk.id)
            await self._studio.fail(walk, "An unexpected error ended this walk. The operator's log has the details.")
        finally:
            if claim.made:
                with anyio.CancelScope(shield=True):
                    await self._release(job)

    async def _begin(self, job: Job, claim: "_Claim") -> None:
        """Claim a job when its work begins. A worker that dies before, while the job waits, has not died of it.

        Raises WalkFailed for a walk that has lost `MAX_TRIES` workers.
        """
        if claim.made:
            return
        claim.made = True
        if not await self._registry.claim(job.key, job.walk_id, self.id):
            return
        self._metrics.takeovers.inc()
        log.warning("job taken over from a lost worker", job=job.key)
        tries = (await self._catalogue.get(job.walk_id)).tries
        if tries >= MAX_TRIES:
            raise WalkFailed(f"{tries} workers died while they made this walk. Request a smaller one.")

    async def _release(self, job: Job) -> None:
        """Release a claim, however long the catalogue is unavailable: one that stayed would count as a lost worker."""
        await retry_forever(
            partial(self._registry.release, job.key, self.id),
            on=Unavailable,
            first_s=FIRST_RELEASE_PAUSE_S,
            longest_s=LONGEST_PAUSE_IN_OUTAGE_S,
        )

    @contextmanager
    def _tracked(self, job: Job, scope: anyio.CancelScope) -> Iterator[None]:
        self._in_flight[scope] = job
        try:
            yield
        finally:
            del self._in_flight[scope]

    async def _drop_outdated(self) -> None:
        """At the next change, cancel jobs whose walk nobody requests any more, or has a newer plan."""
        await self._changes.wait(self._poll_s)
        if not self._in_flight:
            return
        # Planning makes its own job outdated before it queues the jobs it plans; it is short, so it is left alone.
        planning = (Kind.PLAN, Kind.MEASURE)
        jobs = [(scope, job) for scope, job in self._in_flight.items() if job.kind not in planning]
        statuses = await self._progress.statuses({job.walk_id for _, job in jobs})
        for scope, job in jobs:
            if job.walk_id not in statuses or not _is_due(job, statuses[job.walk_id]):
                scope.cancel()

    async def _reconcile(self) -> None:
        """Queue the jobs that open walks lack and the queue has lost; after an embedded start that is all of them."""
        batch: list[Walk] = []
        async for walk in self._catalogue.open_walks():
            self._render_shards_of(walk.spec.model)
            batch.append(walk)
            if len(batch) == WALKS_RECONCILED_AT_ONCE:
                await self._studio.enqueue_lost(batch)
                batch = []
        await self._studio.enqueue_lost(batch)

    async def _report(self) -> None:
        """Report the state of the fleet to other processes, when it changes and every `REPORT_S` seconds."""
        holders = self._fleet.by_name()
        models = {name: FleetStatus(found.awake, found.shard_s) for name, found in holders.items()}
        status = self._fleet.awake, models
        if status != self._reported or anyio.current_time() - self._reported_at > REPORT_S:
            # First, so that the default has replicas awake when others read that some are.
            for name, found in models.items():
                if found.awake:
                    await self._models.note_awake(name, found.shard_s, holders[name].offered)
            await self._registry.report(self.id, *status)
            self._reported, self._reported_at = status, anyio.current_time()

    async def _read_models(self) -> None:
        """Read the registry of models, and take shards of new ones."""
        for name in (await self._models.refresh()).names:
            self._render_shards_of(name)


@dataclass
class _Claim:
    """Whether a job's work has begun."""

    made: bool = False


def _is_due(job: Job, walk: Walk | WalkStatus) -> bool:
    """Whether a job belongs to the walk's current plan: another plan has other shards."""
    return not walk.ended and job.plan == walk.plans and walk.planned is (job.kind is not Kind.PLAN)


def _log_failure(task: str, error: Exception) -> None:
    """Outages are logged once, by outages.py."""
    if not isinstance(error, Unavailable):
        log.error("periodic task failed, it will be retried", task=task, exc_info=error)
