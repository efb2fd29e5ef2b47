"""The size of frames that have the shape of a picture or a clip, within the limits of a model. Pure."""

from math import ceil, lcm

from momalisa_api.walks.model_card import ModelCard
from momalisa_api.web.field_errors import Errors


def frame_size(shape: tuple[int, int], longer: int | None, card: ModelCard, errors: Errors) -> tuple[int, int]:
    """Width and height of frames, in pixels: even, and multiples of the card's, as near to a shape as these allow.

    shape: width and height of what the frames show; longer: of the longer side, None for the longer one of the card.
    A shape that is too long for the model gets the shortest short side. Adds to errors if `longer` is not allowed.
    """
    wanted = max(card.width, card.height) if longer is None else longer
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
