"""A walk's states, the moves between them, and its snapshot. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from momalisa_api.walks.between import BLENDS
from momalisa_api.walks.recipe import Recipe
from momalisa_api.walks.rounds import Layout
from momalisa_api.walks.smoothness import Smoothness
from momalisa_api.walks.spec import Frame, WalkSpec


class State(StrEnum):
    """`waiting`, `rendering`, `filming` (making the films), then `done`; or else `failed` or `cancelled`."""

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
    # Back to waiting: a stored frame was lost.
    State.FILMING: frozenset({State.WAITING, State.DONE, State.FAILED, State.CANCELLED}),
    # Requested again after pictures were lost.
    State.DONE: frozenset({State.WAITING}),
    State.FAILED: frozenset({State.WAITING}),
    State.CANCELLED: frozenset({State.WAITING}),
}


@dataclass(frozen=True, slots=True)
class Walk:
    """A snapshot of a walk. `revision` increases with every change, `number` with every new walk.

    layout: the newest round; plan: its shards, as numbers of its points, None before it is planned; plans: the number
    of plans so far; stored: numbers of the points whose frames are in the bucket; fingerprint: the one that the walk
    keeps to while replicas of it are awake, None before one was chosen; fingerprints: those of its frames so far;
    frames_removed, films_removed: whether the time is over for which the deployment keeps them; extras: names of the
    files that its recipe has beside frames.
    """

    id: str
    number: int
    spec: WalkSpec
    state: State
    revision: int
    tries: int
    tag: int
    layout: Layout
    plan: tuple[tuple[int, ...], ...] | None
    plans: int
    stored: frozenset[int]
    films: frozenset[str]
    warnings: tuple[str, ...]
    smoothness: Smoothness | None
    error: str | None
    created_at: datetime
    fingerprint: str | None = None
    fingerprints: tuple[str, ...] = ()
    frames_removed: bool = False
    films_removed: bool = False
    extras: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def planned(self) -> bool:
        return self.plan is not None

    @property
    def seed(self) -> int | None:
        """Seed of the noise that every frame starts from; None while one is being chosen, and without noise."""
        return self.layout.seed if self.spec.has_noise else None

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames of the walk in order; empty before the spacing is settled."""
        return self.layout.frames(self.spec) if self.layout.settled else ()

    @property
    def early_legs(self) -> tuple[int, ...]:
        """Numbers of the legs that have the early blend, because it was the more even way."""
        return tuple(sorted({point.leg for point in self.layout.points if point.early})) if self.layout.settled else ()

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes of all legs, with all seeds and ways of blending that this walk may try."""
        return recipes_of(self.spec)

    @property
    def frames_ready(self) -> frozenset[int]:
        """Numbers of the frames in the bucket."""
        return self.stored if self.layout.settled and not self.frames_removed else frozenset()

    @property
    def extras_ready(self) -> tuple[str, ...]:
        """Names of the extras in the bucket."""
        return () if self.frames_removed else self.extras

    @property
    def films_ready(self) -> frozenset[str]:
        """Names of the films in the bucket."""
        return frozenset() if self.films_removed else self.films


def recipes_of(spec: WalkSpec) -> tuple[Recipe, ...]:
    """The recipes of all legs, with all seeds and ways of blending that a walk may try."""
    ways = [(seed, blend) for seed in spec.seeds for blend in BLENDS]
    return tuple(recipe for seed, blend in ways for recipe in spec.recipes(seed, blend))


@dataclass(frozen=True, slots=True)
class WalkStatus:
    """The part of a walk that shows whether one of its jobs is still due."""

    state: State
    planned: bool
    plans: int

    @property
    def ended(self) -> bool:
        return self.state in ENDED
