"""The size of frames that have the shape of a picture or a clip, within the limits of a model. Pure."""

from math import ceil, lcm
from typing import Final

from momalisa_api.walks.kinds import DIFFUSION
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.web.field_errors import Errors

# By default, smaller pictures are enlarged to this longer side, in pixels: a film of 64 would be a stamp.
SMALLEST_DEFAULT: Final = 256


def frame_size(shape: tuple[int, int], longer: int | None, card: ModelCard, errors: Errors) -> tuple[int, int]:
    """Width and height of frames, in pixels: even, and multiples of the card's, as near to a shape as these allow.

    shape: width and height of what the frames show; longer: of the longer side, None for the usual one of the model.
    A shape that is too long for the model gets the shortest short side. Adds to errors if `longer` is not allowed.
    """
    wanted = usual_side(shape, card) if longer is None else longer
    if not card.min_size <= wanted <= card.max_size:
        errors.append(("size", f"must be {card.min_size} to {card.max_size} pixels with {card.model}, not {wanted}"))
        wanted = max(card.width, card.height)
    step = lcm(card.size_multiple, 2)
    if ceil(card.min_size / step) > card.max_size // step:
        # Frames of this model have odd sides.
        step = card.size_multiple
    least, most = ceil(card.min_size / step), card.max_size // step
    width, height = (step * min(most, max(least, round(wanted * side / max(shape) / step))) for side in shape)
    return width, height


def usual_side(shape: tuple[int, int], card: ModelCard) -> int:
    """The longer side of frames without a requested size: the card's, and no larger than what they show.

    A diffusion model paints well at the size that it was trained for only, whatever the picture's.
    """
    side = max(card.width, card.height)
    return side if card.engine == DIFFUSION else max(card.min_size, min(side, max(SMALLEST_DEFAULT, *shape)))
