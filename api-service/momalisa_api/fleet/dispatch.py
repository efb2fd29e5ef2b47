"""The queue of shards inside one worker process: which replica renders which shard next, and backups for late shards.

Not the job queue of the deployment (store/queue.py), and no HTTP.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from momalisa_api.fleet.replica import Replica
from momalisa_api.fleet.wire import Head, RenderedFrame
from momalisa_api.metrics import Metrics
from momalisa_api.problems import Problem
from momalisa_api.walks.spec import Recipe

LATE_CHECK_S: Final = 0.2
# A run is late once it takes this much longer than its replica usually does. A backup must be faster by this factor.
LATE_FACTOR: Final = 1.5
# A run that takes this much longer hangs: replicas with another fingerprint may do it, too.
HANGING_FACTOR: Final = 5.0
WORTH_FACTOR: Final = 1.25
WEIGHT_OF_THE_NEWEST: Final = 0.3
# So many shards in a row that a replica lost and another one rendered: the replica is broken, not the shards.
MAX_BLAMED: Final = 2

RenderEvent = Head | RenderedFrame
Kind = tuple[str, tuple[str, ...]]


@dataclass(eq=False)
class ReplicaSlot:
    """A replica and its state in the fleet.

    shard_s: seconds that it takes per shard, None before the first; checked_at: anyio.current_time() of the last check;
    blamed: shards in a row that it lost and another replica rendered; left_out: whether it gets none for a while.
    """

    replica: Replica
    fit: bool = False
    checked_at: float = float("-inf")
    shard_s: float | None = None
    losses_in_a_row: int = 0
    blamed: int = 0
    left_out: bool = False
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    @property
    def kind(self) -> Kind:
        """What decides which tasks the replica suits, if it has lost none."""
        return self.replica.fingerprint, self.replica.features

    def finished(self, seconds: float) -> None:
        """Record how long a shard took, as a moving average: a replica may become slower or faster."""
        self.losses_in_a_row = self.blamed = 0
        newest = WEIGHT_OF_THE_NEWEST
        self.shard_s = seconds if self.shard_s is None else (1 - newest) * self.shard_s + newest * seconds


@dataclass(eq=False)
class Run:
    """One attempt of one replica at a task. started: anyio.current_time()."""

    started: float
    scope: anyio.CancelScope


@dataclass(eq=False)
class ShardTask:
    """A shard that the fleet renders: the fractions still missing, the runs in progress, and the stream of its events.

    tag: its position in the fair queue; the lowest is rendered first. fingerprint: the one that its walk keeps to, None
    if any will do. losses: one slot for each failed try; out_of_memory: those that had too little memory.
    """

    recipe: Recipe
    lacking: set[float]
    events: MemoryObjectSendStream[RenderEvent]
    tag: int = 0
    fingerprint: str | None = None
    runs: dict[ReplicaSlot, Run] = field(default_factory=dict)
    losses: list[ReplicaSlot] = field(default_factory=list)
    out_of_memory: list[ReplicaSlot] = field(default_factory=list)
    problem: Problem | None = None
    over: bool = False

    def matches(self, slot: ReplicaSlot) -> bool:
        """Whether a slot's replica has the fingerprint that the walk keeps to."""
        return self.fingerprint in (None, slot.replica.fingerprint)

    def rank(self, slot: ReplicaSlot) -> tuple[bool, ...]:
        """How well a slot suits this task; the lowest is the best.

        Last come replicas like one that had too little memory, then those that lost the task twice; then those with
        another fingerprint; then those that lost it once.
        """
        kinds = {other.replica.fingerprint for other in self.out_of_memory}
        losses = self.losses.count(slot)
        return slot.replica.fingerprint in kinds, losses > 1, not self.matches(slot), losses > 0

    def end(self, problem: Problem | None = None) -> None:
        """Close the stream of events and cancel all runs. problem: why the shard failed, if it did."""
        if self.over:
            return
        self.over, self.problem = True, problem
        self.events.close()
        for run in self.runs.values():
            run.scope.cancel()


class ShardQueue:
    """Tasks that wait, in order of their tags, and tasks that run."""

    def __init__(
        self, fit: Callable[[], Iterable[ReplicaSlot]], metrics: Metrics, *, backups: bool, first_guess_s: float
    ) -> None:
        """fit: returns the slots that can take tasks now; backups: whether an idle slot gets a late task a second time;
        first_guess_s: expected seconds per shard before any was measured.
        """
        self._fit = fit
        self._metrics = metrics
        self._backups = backups
        self._first_guess_s = first_guess_s
        self._waiting: list[ShardTask] = []
        self._running: set[ShardTask] = set()
        # What wakes each idle slot. A thousand of them must not all wake for one task.
        self._idle: dict[ReplicaSlot, anyio.Event] = {}
        self._fit_changed = anyio.Event()
        self._late: list[ShardTask] = []
        self._looked_at = float("-inf")

    def add(self, task: ShardTask) -> None:
        """Queue a new task, after all with the same tag or a lower one."""
        insort(self._waiting, task, key=lambda waiting: waiting.tag)
        self._offer()

    def drop(self, task: ShardTask) -> None:
        """End a task and remove it from the queue. Does nothing to one that has ended."""
        task.end()
        if task in self._waiting:
            self._waiting.remove(task)

    async def wait_for_fit(self) -> None:
        """Wait until a slot is fit."""
        while not any(True for _ in self._fit()):
            await self._fit_changed.wait()

    async def next_for(self, slot: ReplicaSlot, wait_s: float) -> ShardTask | None:
        """The next task for an idle slot; None if there is none for `wait_s` seconds, or the slot becomes unfit."""
        try:
            with anyio.move_on_after(wait_s):
                while slot.fit:
                    if task := self._first_for(slot):
                        self._waiting.remove(task)
                        return task
                    if late := self._late_for(slot):
                        self._metrics.backups.inc()
                        return late
                    woken = self._idle[slot] = anyio.Event()
                    with anyio.move_on_after(LATE_CHECK_S if self._running else None):
                        await woken.wait()
            return None
        finally:
            self._idle.pop(slot, None)
            # It may have been woken for a task that it does not take now.
            self._offer()

    def begin(self, task: ShardTask, slot: ReplicaSlot) -> Run:
        """Record that a slot runs a task."""
        self._running.add(task)
        run = task.runs[slot] = Run(anyio.current_time(), anyio.CancelScope())
        return run

    def settle(self, task: ShardTask, slot: ReplicaSlot) -> None:
        """Record that a run is over. A task that lacks fractions and has no other run goes back into the queue."""
        del task.runs[slot]
        if not task.lacking and not task.over:
            for other in set(task.losses) - {slot, *task.out_of_memory}:
                self._blame(other)
            task.end()
        if not task.runs:
            self._running.discard(task)
            if not task.over:
                # Before tasks with the same tag: it was queued before them.
                self._waiting.insert(bisect_left(self._waiting, task.tag, key=lambda waiting: waiting.tag), task)
                self._offer()

    def _blame(self, slot: ReplicaSlot) -> None:
        """Count a shard that a slot lost and another one rendered. A broken slot is left out, its losses forgotten."""
        slot.blamed += 1
        if slot.blamed >= MAX_BLAMED:
            slot.fit, slot.left_out = False, True
            for task in {*self._waiting, *self._running}:
                task.losses = [lost for lost in task.losses if lost is not slot]
            self.fit_changed()

    def suits(self, task: ShardTask, slot: ReplicaSlot) -> bool:
        """Whether a slot may run a task: its replica can render it, and no other fit slot suits the task better."""
        if not slot.replica.can_render(task.recipe):
            return False
        rank = task.rank(slot)
        if not any(rank):
            return True
        able = (other for other in self._fit() if other.replica.can_render(task.recipe))
        return rank <= min(map(task.rank, able), default=rank)

    def _first_for(self, slot: ReplicaSlot) -> ShardTask | None:
        """The first task in the queue that a slot may run."""
        unsuited = set[tuple[str | None, str]]()
        for task in self._waiting:
            # Tasks that nobody has lost differ only in these.
            needs = task.fingerprint, task.recipe.blend
            if task.losses or needs not in unsuited:
                if self.suits(task, slot):
                    return task
                unsuited.add(needs)
        return None

    def _offer(self) -> None:
        """Wake idle slots for the waiting tasks, one for each."""
        left, unsuited = len(self._waiting), set[Kind]()
        alike = not any(task.losses for task in self._waiting)
        for slot in list(self._idle):
            if not left:
                return
            if slot.kind in unsuited:
                continue
            if self._first_for(slot):
                self._idle.pop(slot).set()
                left -= 1
            elif alike:
                unsuited.add(slot.kind)

    def _late_for(self, slot: ReplicaSlot) -> ShardTask | None:
        """A late task that this slot would finish clearly sooner than the slot that runs it."""
        if not self._backups or not self._running:
            return None
        late = (task for task in self._late_for_any() if slot not in task.losses and self._is_late(task, slot))
        return next(late, None)

    def _late_for_any(self) -> list[ShardTask]:
        """Tasks that are late for the fastest of replicas that are alike: one look for all idle slots."""
        now = anyio.current_time()
        if now >= self._looked_at + LATE_CHECK_S / 2:
            fastest: dict[Kind, ReplicaSlot] = {}
            for slot in sorted(self._fit(), key=lambda slot: slot.shard_s or self._first_guess_s):
                fastest.setdefault(slot.kind, slot)
            self._looked_at = now
            self._late = [task for task in self._running if any(self._is_late(task, one) for one in fastest.values())]
        return self._late

    def _is_late(self, task: ShardTask, slot: ReplicaSlot) -> bool:
        """Whether a slot would finish a task that runs clearly sooner than the slot that runs it."""
        if len(task.runs) != 1 or task.over or not slot.replica.can_render(task.recipe):
            return False
        [(holder, run)] = task.runs.items()
        matches = task.matches(slot)
        usual_s = holder.shard_s or (slot.shard_s if matches else None) or self._first_guess_s
        elapsed_s = anyio.current_time() - run.started
        if not matches and (elapsed_s < HANGING_FACTOR * usual_s or self._has_other(task, holder)):
            return False
        # A late run is expected to need as long again as it has taken so far.
        left_s = usual_s - elapsed_s if elapsed_s < LATE_FACTOR * usual_s else elapsed_s
        return left_s > WORTH_FACTOR * (slot.shard_s or usual_s)

    def _has_other(self, task: ShardTask, holder: ReplicaSlot) -> bool:
        """Whether another fit slot has the fingerprint of a task that runs."""
        able = [slot for slot in self._fit() if slot.replica.can_render(task.recipe) and slot is not holder]
        return any(task.matches(slot) and slot not in task.losses for slot in able)

    def fit_changed(self) -> None:
        """Have all idle slots look for a task again, since another slot has become fit or unfit."""
        changed, self._fit_changed = self._fit_changed, anyio.Event()
        changed.set()
        while self._idle:
            self._idle.popitem()[1].set()
