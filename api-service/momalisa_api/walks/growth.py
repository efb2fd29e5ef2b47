"""How many pictures the rounds of an even walk add: decided once per walk, from what is idle when it is planned. Pure.

A replica pads each shard to its micro-batch, so the pictures that fill the slots of idle replicas take no time.
"""

from collections.abc import Sequence
from math import ceil
from typing import Final, NamedTuple

from momalisa_api.walks.spec import Effort

# The most pictures that the rounds of a walk render, as multiples of its frames.
MOST: Final[dict[Effort, float]] = {"fast": 1.5, "balanced": 2.0, "best": 2.0}


class Slots(NamedTuple):
    """What can render a walk at once. walks: the open ones, this one included, which share the replicas."""

    micro_batch: int
    replicas: int
    walks: int = 1

    def per_leg(self, legs: int) -> int:
        """Pictures of one leg that are rendered at once: whole micro-batches, as a shard has one leg; at least one."""
        return max(1, self.replicas // (legs * max(1, self.walks))) * self.micro_batch


def choose_growth(effort: Effort, legs: Sequence[int], slots: Slots) -> tuple[float, ...]:
    """The number of known pictures after each round that follows the first, as multiples of a leg's frames.

    legs: the number of intervals of each leg. Increasing, and at most `MOST`. Found by experiment
    (docs/experiments/even-spacing.md).
    """
    frames, micro_batch = max(legs) + 1, slots.micro_batch
    at_once = slots.per_leg(len(legs))
    quarter = frames / 4
    if at_once >= quarter:
        # Idle replicas: a round fills their slots.
        width = min(at_once, frames)
        rounds = 1 if width > frames / 2 else 2
    else:
        width = max(1, round(quarter / micro_batch)) * micro_batch
        rounds = 2
    most = MOST[effort] * frames
    if effort == "fast":
        rounds = 1
    elif effort == "best":
        rounds, width = 3, ceil(frames / 3)
    sizes = [min(frames + number * width, int(most)) for number in range(1, rounds + 1)]
    return tuple(size / frames for size in sizes)
