"""The queue of shards inside one worker process: which replica renders which shard next, and backups for late shards.

Not the job queue of the deployment (store/queue.py), and no HTTP.
"""

from bisect import bisect_left, insort
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import anyio
import structlog
from anyio.streams.memory import MemoryObjectSendStream

from momalisa_api.backoff import delay_s
from momalisa_api.fleet.replica import Replica
from momalisa_api.fleet.wire import Head, ModelAnswer, Pictures, RenderedExtra, RenderedFrame
from momalisa_api.metrics import Metrics
from momalisa_api.problems import Problem
from momalisa_api.walks.fingerprints import UNKNOWN
from momalisa_api.walks.model_card import ModelKey
from momalisa_api.walks.recipe import Recipe

LATE_CHECK_S: Final = 0.2
# A run is late once it takes this much longer than its replica usually does. A backup must be faster by this factor.
LATE_FACTOR: Final = 1.5
# A run that takes this much longer hangs: replicas with another fingerprint may do it, too.
HANGING_FACTOR: Final = 5.0
WORTH_FACTOR: Final = 1.25
WEIGHT_OF_THE_NEWEST: Final = 0.3
# So many shards in a row that a replica lost and another one rendered: the replica is broken, not the shards.
MAX_BLAMED: Final = 2
LONGEST_LEFT_OUT_S: Final = 300.0

log = structlog.get_logger()

RenderEvent = Head | RenderedExtra | RenderedFrame
# Reads the frames of a clip at some fractions, when a replica is about to get them: they are not kept in memory before.
ReadSources = Callable[[tuple[float, ...]], Awaitable[Mapping[float, bytes]]]
Kind = frozenset[tuple[ModelKey, str, tuple[str, ...]]]


@dataclass(eq=False)
class ReplicaSlot:
    """A replica and its state in the fleet.

    models: those that it may render, as it told them last; kind: what decides which tasks it suits, if it has lost
    none; told: whether it was checked once; fit_at: anyio.current_time() when it was last known to be fit; checked_at:
    of the last check; shard_s: seconds that it takes per shard of a model, after the first; blamed: shards in a row
    of a model that it lost and another replica rendered; left_out: until when it gets no shards of a model.
    """

    replica: Replica
    models: Mapping[ModelKey, ModelAnswer] = field(default_factory=dict)
    kind: Kind = frozenset()
    told: bool = False
    fit: bool = False
    fit_at: float = float("-inf")
    checked_at: float = float("-inf")
    shard_s: dict[ModelKey, float] = field(default_factory=dict)
    losses_in_a_row: int = 0
    blamed: dict[ModelKey, int] = field(default_factory=dict)
    left_out: dict[ModelKey, float] = field(default_factory=dict)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def hold(self, models: Mapping[ModelKey, ModelAnswer]) -> None:
        """Record which models the replica may render."""
        self.models = models
        self.kind = frozenset((key, model.fingerprint, model.features) for key, model in models.items())

    def fingerprint(self, key: ModelKey) -> str:
        """The fingerprint of one of its models."""
        return self.models[key].fingerprint if key in self.models else UNKNOWN

    def offers(self, key: ModelKey) -> bool:
        """Whether the replica is fit for shards of a model."""
        return self.fit and key in self.models and not self._leaves_out(key)

    @property
    def awake(self) -> bool:
        """Whether the replica is fit for shards of any model."""
        return self.fit and not (self.left_out and all(map(self._leaves_out, self.models)))

    def _leaves_out(self, key: ModelKey) -> bool:
        return key in self.left_out and anyio.current_time() < self.left_out[key]

    def finished(self, key: ModelKey, seconds: float) -> None:
        """Record how long a shard took, as a moving average: a replica may become slower or faster."""
        self.losses_in_a_row = 0
        self.blamed.pop(key, None)
        newest, before = WEIGHT_OF_THE_NEWEST, self.shard_s.get(key, seconds)
        self.shard_s[key] = (1 - newest) * before + newest * seconds


@dataclass(eq=False)
class Run:
    """One attempt of one replica at a task. started: anyio.current_time()."""

    started: float
    scope: anyio.CancelScope


@dataclass(eq=False)
class ShardTask:
    """A shard that the fleet renders: the fractions still missing, the runs in progress, and the stream of its events.

    tag: its position in the fair queue; the lowest is rendered first. fingerprint: the one that its walk keeps to, None
    if any will do. pictures: those of the recipe; extras: whether its files are needed, too; sources: reads the
    frames of its clip. losses: one slot
    for each failed try; out_of_memory: those that had too little memory.
    """

    recipe: Recipe
    lacking: set[float]
    events: MemoryObjectSendStream[RenderEvent]
    tag: int = 0
    fingerprint: str | None = None
    pictures: Pictures = field(default_factory=dict)
    extras: bool = False
    sources: ReadSources | None = None
    runs: dict[ReplicaSlot, Run] = field(default_factory=dict)
    losses: list[ReplicaSlot] = field(default_factory=list)
    out_of_memory: list[ReplicaSlot] = field(default_factory=list)
    problem: Problem | None = None
    over: bool = False
    key: ModelKey = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.recipe.model_key

    async def pictures_for(self, fractions: tuple[float, ...]) -> Pictures:
        """All pictures that a replica needs for some fractions. Raises what `sources` raises."""
        sources = await self.sources(fractions) if self.sources else {}
        return {**self.pictures, **dict(sources.items())}

    def fits(self, slot: ReplicaSlot) -> bool:
        """Whether a slot's replica can render this task at all."""
        return slot.offers(self.key) and slot.models[self.key].can_render(self.recipe)

    def matches(self, slot: ReplicaSlot) -> bool:
        """Whether a slot's replica has the fingerprint that the walk keeps to."""
        return self.fingerprint in (None, slot.fingerprint(self.key))

    def rank(self, slot: ReplicaSlot) -> tuple[bool, ...]:
        """How well a slot suits this task; the lowest is the best.

        Last come replicas like one that had too little memory, then those that lost the task twice; then those with
        another fingerprint; then those that lost it once.
        """
        kinds = {other.fingerprint(self.key) for other in self.out_of_memory}
        losses = self.losses.count(slot)
        return slot.fingerprint(self.key) in kinds, losses > 1, not self.matches(slot), losses > 0

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
        self,
        fit: Callable[[], Iterable[ReplicaSlot]],
        metrics: Metrics,
        *,
        backups: bool,
        first_guess_s: float,
        first_left_out_s: float,
    ) -> None:
        """fit: returns the slots that can take tasks now; backups: whether an idle slot gets a late task a second time;
        first_guess_s: expected seconds per shard before any was measured; first_left_out_s: how long a slot gets no
        tasks of a model at first if it loses what others render.
        """
        self._fit = fit
        self._first_left_out_s = first_left_out_s
        self._metrics = metrics
        self._backups = backups
        self._first_guess_s = first_guess_s
        self._waiting: dict[ModelKey, list[ShardTask]] = {}
        self._running: set[ShardTask] = set()
        # What wakes each idle slot. A thousand of them must not all wake for one task.
        self._idle: dict[ReplicaSlot, anyio.Event] = {}
        self._fit_changed = anyio.Event()
        self._late: list[ShardTask] = []
        self._looked_at = float("-inf")

    def add(self, task: ShardTask) -> None:
        """Queue a new task, after all with the same tag or a lower one."""
        insort(self._waiting.setdefault(task.key, []), task, key=lambda waiting: waiting.tag)
        self._offer()

    def drop(self, task: ShardTask) -> None:
        """End a task and remove it from the queue. Does nothing to one that has ended."""
        task.end()
        if task in self._waiting.get(task.key, ()):
            self._take(task)

    def _take(self, task: ShardTask) -> None:
        self._waiting[task.key].remove(task)
        if not self._waiting[task.key]:
            del self._waiting[task.key]

    async def wait_for_change(self) -> None:
        """Wait until a slot becomes fit or unfit, or gets other models."""
        await self._fit_changed.wait()

    def end_waiting(self, of: Callable[[ModelKey], bool], problem: Callable[[ModelKey], Problem]) -> None:
        """End the waiting tasks of some models, with a problem for each."""
        for key in filter(of, self._waiting):
            for task in self._waiting[key]:
                task.end(problem(key))

    async def next_for(self, slot: ReplicaSlot, wait_s: float) -> ShardTask | None:
        """The next task for an idle slot; None if there is none for `wait_s` seconds, or the slot becomes unfit."""
        try:
            with anyio.move_on_after(wait_s):
                while slot.fit:
                    if task := self._first_for(slot):
                        self._take(task)
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
                self._blame(other, task.key)
            task.end()
        if not task.runs:
            self._running.discard(task)
            if not task.over:
                # Before tasks with the same tag: it was queued before them.
                waiting = self._waiting.setdefault(task.key, [])
                waiting.insert(bisect_left(waiting, task.tag, key=lambda other: other.tag), task)
                self._offer()

    def _blame(self, slot: ReplicaSlot, key: ModelKey) -> None:
        """Count a shard of a model that a slot lost and another one rendered.

        A slot that loses every shard of a model gets none for a while, longer each time until it renders one. Its
        losses are forgotten.
        """
        blamed = slot.blamed[key] = slot.blamed.get(key, 0) + 1
        if blamed < MAX_BLAMED:
            return
        pause_s = delay_s(blamed - MAX_BLAMED + 1, self._first_left_out_s, LONGEST_LEFT_OUT_S)
        log.warning(
            "replica left out: others render the shards that it loses",
            url=slot.replica.url,
            model=key.model,
            pause_s=pause_s,
        )
        slot.left_out[key], slot.checked_at = anyio.current_time() + pause_s, float("-inf")
        for task in [*self._waiting.get(key, ()), *self._running]:
            task.losses = [lost for lost in task.losses if lost is not slot or task.key != key]
        self.fit_changed()

    def suits(self, task: ShardTask, slot: ReplicaSlot) -> bool:
        """Whether a slot may run a task: its replica can render it, and no other fit slot suits the task better."""
        if not task.fits(slot):
            return False
        rank = task.rank(slot)
        if not any(rank):
            return True
        able = filter(task.fits, self._fit())
        return rank <= min(map(task.rank, able), default=rank)

    def _first_for(self, slot: ReplicaSlot, among: Container[ModelKey] | None = None) -> ShardTask | None:
        """The first task in the queue that a slot may run: of all its models, or of those among some."""
        keys = [key for key in slot.models if key in self._waiting and (among is None or key in among)]
        firsts = [task for key in keys if (task := self._first_of(self._waiting[key], slot))]
        return min(firsts, key=lambda task: task.tag, default=None)

    def _first_of(self, waiting: Iterable[ShardTask], slot: ReplicaSlot) -> ShardTask | None:
        unsuited = set[tuple[str | None, str, frozenset[str]]]()
        for task in waiting:
            # Tasks of a model that nobody has lost differ only in these.
            needs = task.fingerprint, task.recipe.kind, task.recipe.features
            if task.losses or needs not in unsuited:
                if self.suits(task, slot):
                    return task
                unsuited.add(needs)
        return None

    def _offer(self) -> None:
        """Wake idle slots for the waiting tasks, one for each."""
        if not self._idle:
            return
        left, unsuited = {key: len(tasks) for key, tasks in self._waiting.items()}, set[Kind]()
        alike = not any(task.losses for tasks in self._waiting.values() for task in tasks)
        for slot in list(self._idle):
            if not left:
                return
            if slot.kind in unsuited:
                continue
            if task := self._first_for(slot, left):
                self._idle.pop(slot).set()
                left[task.key] -= 1
                if not left[task.key]:
                    del left[task.key]
            elif alike and not slot.left_out:
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
            self._looked_at = now
            fastest = {key: self._fastest(key) for key in {task.key for task in self._running}}
            late = self._is_late
            self._late = [task for task in self._running if any(late(task, slot) for slot in fastest[task.key])]
        return self._late

    def _fastest(self, key: ModelKey) -> Iterable[ReplicaSlot]:
        """The fastest of the replicas of a model that are alike, for each kind of them."""
        fastest: dict[Kind, ReplicaSlot] = {}
        holders = (slot for slot in self._fit() if key in slot.models)
        for slot in sorted(holders, key=lambda slot: slot.shard_s.get(key) or self._first_guess_s):
            fastest.setdefault(slot.kind, slot)
        return fastest.values()

    def _is_late(self, task: ShardTask, slot: ReplicaSlot) -> bool:
        """Whether a slot would finish a task that runs clearly sooner than the slot that runs it."""
        if len(task.runs) != 1 or task.over or not task.fits(slot):
            return False
        [(holder, run)] = task.runs.items()
        matches, own_s = task.matches(slot), slot.shard_s.get(task.key)
        usual_s = holder.shard_s.get(task.key) or (own_s if matches else None) or self._first_guess_s
        elapsed_s = anyio.current_time() - run.started
        if not matches and (elapsed_s < HANGING_FACTOR * usual_s or self._has_other(task, holder)):
            return False
        # A late run is expected to need as long again as it has taken so far.
        left_s = usual_s - elapsed_s if elapsed_s < LATE_FACTOR * usual_s else elapsed_s
        return left_s > WORTH_FACTOR * (own_s or usual_s)

    def _has_other(self, task: ShardTask, holder: ReplicaSlot) -> bool:
        """Whether another fit slot has the fingerprint of a task that runs."""
        able = [slot for slot in self._fit() if task.fits(slot) and slot is not holder]
        return any(task.matches(slot) and slot not in task.losses for slot in able)

    def fit_changed(self) -> None:
        """Have all idle slots look for a task again, since another slot is fit or unfit now, or has other models."""
        changed, self._fit_changed = self._fit_changed, anyio.Event()
        changed.set()
        while self._idle:
            self._idle.popitem()[1].set()
