"""Jobs for the fleet and who gets the next: the line itself, and backups for what is late. Knows no HTTP."""

import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from momalisa_api.fleet.replica import Replica
from momalisa_api.fleet.wire import Head, RenderedFrame
from momalisa_api.metrics import Metrics
from momalisa_api.problems import Problem
from momalisa_api.walks.spec import Recipe

LATE_LOOK_S = 0.2
# A run that has outlasted its replica's usual time by this much is late; a backup must promise to be this much sooner.
LATE_FACTOR, WORTH_FACTOR = 1.5, 1.25
WEIGHT_OF_THE_NEWEST = 0.3


Event = Head | RenderedFrame


@dataclass(eq=False)
class Worker:
    """A replica as the fleet sees it."""

    replica: Replica
    fit: bool = False
    looked_at: float = float("-inf")
    shard_s: float | None = None
    losses_in_a_row: int = 0
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def took(self, seconds: float) -> None:
        """Remember how long a shard took: a moving average, so that a replica may become slow, or fast again."""
        self.losses_in_a_row = 0
        newest = WEIGHT_OF_THE_NEWEST
        self.shard_s = seconds if self.shard_s is None else (1 - newest) * self.shard_s + newest * seconds


@dataclass(eq=False)
class Run:
    """One worker's try at a job."""

    started: float
    scope: anyio.CancelScope


@dataclass(eq=False)
class Job:
    """A shard on its way through the fleet: what it lacks, who has it, and where its events go.

    tag: its turn; the lowest is rendered first.
    """

    recipe: Recipe
    lacking: set[float]
    events: MemoryObjectSendStream[Event]
    tag: int = 0
    runs: dict[Worker, Run] = field(default_factory=dict)
    losses: list[Worker] = field(default_factory=list)
    problem: Problem | None = None
    over: bool = False

    def end(self, problem: Problem | None = None) -> None:
        """Tell the asker that nothing more comes, and every replica that still renders to stop."""
        if self.over:
            return
        self.over, self.problem = True, problem
        self.events.close()
        for run in self.runs.values():
            run.scope.cancel()


class Line:
    """Jobs that wait, in their order, and jobs that run."""

    def __init__(
        self, fit: Callable[[], Iterable[Worker]], metrics: Metrics, *, backups: bool, first_guess_s: float
    ) -> None:
        """fit: the workers that can take jobs just now; backups: whether an idle one is given a late job a second time;
        first_guess_s: how long a shard is thought to take before any has been seen.
        """
        self._fit = fit
        self._metrics = metrics
        self._backups = backups
        self._first_guess_s = first_guess_s
        self._waiting: list[Job] = []
        self._running: set[Job] = set()
        self._changed = anyio.Event()

    def add(self, job: Job) -> None:
        """Put a new job behind all whose turn is not later."""
        insort(self._waiting, job, key=lambda waiting: waiting.tag)
        self._wake()

    def drop(self, job: Job) -> None:
        """Take back a job that nobody asks for any more."""
        job.end()
        if job in self._waiting:
            self._waiting.remove(job)

    async def next_for(self, worker: Worker, wait_s: float) -> Job | None:
        """The next job for an idle worker; None where there is none for a while."""
        with anyio.move_on_after(wait_s):
            while True:
                if job := self._first_for(worker):
                    self._waiting.remove(job)
                    return job
                if late := self._late_for(worker):
                    self._metrics.backups.inc()
                    return late
                with anyio.move_on_after(LATE_LOOK_S if self._running else None):
                    await self._changed.wait()
        return None

    def begin(self, job: Job, worker: Worker) -> Run:
        """Note that a worker has a job."""
        self._running.add(job)
        run = job.runs[worker] = Run(time.monotonic(), anyio.CancelScope())
        return run

    def settle(self, job: Job, worker: Worker) -> None:
        """After a run: the job is over, or another worker has it, or it goes back to the head of the line."""
        del job.runs[worker]
        if not job.lacking:
            job.end()
        if not job.runs:
            self._running.discard(job)
            if not job.over:
                # Before those of the same turn: it was there first.
                self._waiting.insert(bisect_left(self._waiting, job.tag, key=lambda waiting: waiting.tag), job)
        self._wake()

    def _first_for(self, worker: Worker) -> Job | None:
        """The first job in line, but none that this worker has lost while there is one who has not."""
        for job in self._waiting:
            if worker not in job.losses or all(other in job.losses for other in self._fit()):
                return job
        return None

    def _late_for(self, worker: Worker) -> Job | None:
        """A job that this worker would finish clearly sooner than the one that has it."""
        if not self._backups:
            return None
        now = time.monotonic()
        for job in self._running:
            if len(job.runs) != 1 or job.over or worker in job.losses:
                continue
            [(holder, run)] = job.runs.items()
            usual_s = holder.shard_s or worker.shard_s or self._first_guess_s
            elapsed_s = now - run.started
            # Past its time, a run is thought to need as long again as it has taken so far.
            left_s = usual_s - elapsed_s if elapsed_s < LATE_FACTOR * usual_s else elapsed_s
            if left_s > WORTH_FACTOR * (worker.shard_s or usual_s):
                return job
        return None

    def _wake(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
