"""How far a walk is: its states, the moves between them, and what a snapshot of it holds. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from momalisa_api.smoothness import Smoothness
from momalisa_api.walk import WalkSpec


class State(StrEnum):
    WAITING = "waiting"
    RENDERING = "rendering"
    FILMING = "filming"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})
OPEN = frozenset(State) - ENDED

MOVES: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.RENDERING, State.FAILED, State.CANCELLED}),
    State.RENDERING: frozenset({State.FILMING, State.FAILED, State.CANCELLED}),
    # Back to waiting: a frame that had landed is gone.
    State.FILMING: frozenset({State.WAITING, State.DONE, State.FAILED, State.CANCELLED}),
    # Asked for again after pictures of it were lost.
    State.DONE: frozenset({State.WAITING}),
    State.FAILED: frozenset({State.WAITING}),
    State.CANCELLED: frozenset({State.WAITING}),
}


@dataclass(frozen=True, slots=True)
class Walk:
    """A snapshot of a walk. `revision` grows with every change; `number` with every new walk.

    plan: its shards as frame numbers, None before it is planned; plans: how many plans there have been.
    """

    id: str
    number: int
    spec: WalkSpec
    state: State
    revision: int
    tries: int
    tag: int
    plan: tuple[tuple[int, ...], ...] | None
    plans: int
    landed: frozenset[int]
    films: frozenset[str]
    warnings: tuple[str, ...]
    smoothness: Smoothness | None
    error: str | None
    created_at: datetime

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def planned(self) -> bool:
        return self.plan is not None


@dataclass(frozen=True, slots=True)
class Standing:
    """The little of a walk that tells whether a job of it is still due."""

    state: State
    planned: bool
    plans: int

    @property
    def ended(self) -> bool:
        return self.state in ENDED
