"""How many rounds and pictures a walk needs: those that are left, and those that it may need at most. Pure."""

from collections import Counter
from collections.abc import Container, Sequence
from itertools import pairwise, zip_longest

from momalisa_api.walks.growth import MOST
from momalisa_api.walks.rescue import fractions_of
from momalisa_api.walks.rounds import Layout, known_on, sizes_of
from momalisa_api.walks.seed_choice import sample_fractions
from momalisa_api.walks.spec import WalkSpec


def pictures_left(spec: WalkSpec, layout: Layout, stored: Container[int]) -> list[list[int]]:
    """How many pictures each round needs that is left, one number per recipe: of this layout, then of those after it.

    stored: numbers of the layout's points whose pictures exist. Exact, but for inner stops: two legs share each.
    """
    missing = Counter((point.seed, point.leg) for number, point in enumerate(layout.points) if number not in stored)
    later = [] if layout.settled else [_later(spec, layout, leg) for leg in range(len(spec.legs))]
    return [list(missing.values()), *(list(counts) for counts in zip_longest(*later, fillvalue=0))]


def _later(spec: WalkSpec, layout: Layout, leg: int) -> list[int]:
    """How many pictures each round after this one adds to a leg."""
    frames = spec.legs[leg] + 1
    # All seeds that are tried have the same fractions.
    points = [point for point in layout.points if point.seed == layout.points[0].seed]
    known = len(fractions_of(known_on(points, leg), early=leg in layout.rescued))
    sizes = (frames, *sizes_of(frames, layout.growth))
    return [after - before for before, after in pairwise([known, *(size for size in sizes if size > known)])]


def round_of(spec: WalkSpec, layout: Layout) -> tuple[int, int]:
    """The number of a round, counted from 1, and the number of rounds that the walk needs at most.

    Only walks of even spacing, and those that choose their seed, need more than one. A rescue adds all rounds again.
    """
    frames = max(spec.legs) + 1
    tried = len(sample_fractions(frames)) if len(spec.seeds) > 1 else 0
    sizes = {frames, *sizes_of(frames, layout.growth)}
    rounds = bool(tried) + sum(size > tried for size in sizes) + len(sizes) * bool(layout.rescued)
    later = len(pictures_left(spec, layout, ())) - 1
    # Rounds that an older release began have no growth yet.
    return max(1, rounds - later), rounds


def most_pictures(spec: WalkSpec, growth: Sequence[float] | None = None, rescued: Sequence[int] = ()) -> int:
    """The number of pictures that a walk may render: what it counts for in quotas and in the queue.

    growth: of its layout; None before it is decided. rescued: of its layout, too: legs that are rendered again count
    from then on, because few walks have one.
    """
    if growth is None:
        growth = (MOST[spec.effort],) if spec.spacing == "even" else ()
    tried = (len(spec.seeds) - 1) * (sum(len(sample_fractions(count + 1)) - 1 for count in spec.legs) + 1)
    of_legs = [max([count + 1, *sizes_of(count + 1, growth)]) - 1 for count in spec.legs]
    return tried + sum(of_legs) + 1 + sum(of_legs[leg] - 1 for leg in rescued)
