"""How many pictures the rounds of an even walk add: decided once per walk, from what is idle when it is planned. Pure.

A replica pads each shard to its micro-batch, so the pictures that fill the slots of idle replicas take no time.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from momalisa_api.walks.common_spec import Effort

# The most pictures that the rounds of a walk render, as multiples of its frames.
MOST: Final[dict[Effort, float]] = {"fast": 1.5, "balanced": 2.0, "best": 2.0}


class Capacity(NamedTuple):
    """What can render a walk. walks: the open ones, this one included, which share the replicas."""

    micro_batch: int
    replicas: int
    walks: int = 1

    def idle_slots(self, legs: int) -> int:
        """Pictures of one leg that idle replicas render at once: whole micro-batches, as a shard has one leg."""
        return self.replicas // (legs * max(1, self.walks)) * self.micro_batch


def choose_growth(effort: Effort, legs: Sequence[int], capacity: Capacity) -> tuple[float, ...]:
    """The number of known pictures after each round that follows the first, as multiples of a leg's frames.

    legs: the number of intervals of each leg. Increasing, and at most `MOST`. The widths are found by experiment
    (docs/experiments/even-spacing.md).
    """
    frames, most = max(legs) + 1, int(MOST[effort] * (max(legs) + 1))
    slots = min(capacity.idle_slots(len(legs)), frames)
    match effort:
        case "fast":
            width, rounds = max(slots, _batches(frames / 4, capacity)), 1
        case "best":
            width, rounds = _batches(frames / 3, capacity), 3
        case _ if slots >= frames:
            # The uniform walk takes the time of one shard, and so does each further round.
            width, rounds = frames, 1
        case _ if slots >= frames / 4:
            width, rounds = min(slots, frames // 2), 2
        case _:
            width = _batches(frames / 4, capacity)
            rounds = max(1, int(frames / 2 / width + 0.5))
    return tuple(min(frames + number * width, most) / frames for number in range(1, rounds + 1))


def _batches(pictures: float, capacity: Capacity) -> int:
    """About so many pictures, in whole micro-batches: at least one."""
    return max(1, round(pictures / capacity.micro_batch)) * capacity.micro_batch
