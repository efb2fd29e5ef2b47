"""Frames have the shape of what they show, within the limits of their model."""

from hypothesis import given
from hypothesis import strategies as st

from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.stops import Crop
from momalisa_api.web.field_errors import Errors
from momalisa_api.web.frame_size import frame_size, usual_side
from tests.support.factories import CARD

SIDES = st.integers(1, 10_000)


def card(multiple: int = 8, least: int = 16, most: int = 512, side: int = 32) -> ModelCard:
    sizes = {"size_multiple": multiple, "min_size": least, "max_size": most, "width": side, "height": side}
    return ModelCard.model_validate({**CARD, **sizes})


@given(SIDES, SIDES, st.none() | st.integers(16, 512), st.sampled_from([1, 2, 3, 8, 14, 16]))
def test_sizes_are_even_multiples_within_the_limits_and_crops_have_their_shape(width, height, longer, multiple):
    """Also of 1 x 5000 pixels: the model's shortest side, and the middle of the picture."""
    used = card(multiple, side=multiple * 20)
    errors: Errors = []
    sides = frame_size((width, height), longer, used, errors)
    assert errors == []
    assert all(16 <= side <= 512 and side % multiple == side % 2 == 0 for side in sides)
    crop = Crop(x=0, y=0, width=width, height=height).cut_to(*sides)
    assert 1 <= crop.width <= width
    assert 1 <= crop.height <= height
    if abs(crop.width * sides[1] - crop.height * sides[0]) > max(sides):
        assert min(crop.width, crop.height) == 1, "only whole pixels make another shape"


def test_the_longer_side_is_as_requested_and_the_other_one_follows():
    for shape, longer, expected in (
        ((3000, 2000), 480, (480, 320)),
        ((2000, 3000), 480, (320, 480)),
        ((500, 500), None, (32, 32)),
        ((1, 5000), 512, (16, 512)),
        ((5000, 1), 512, (512, 16)),
        ((1001, 1000), 101, (104, 104)),
    ):
        assert frame_size(shape, longer, card(), []) == expected


def test_a_model_with_one_odd_size_has_frames_of_this_size():
    assert frame_size((2, 1), None, card(1, 33, 33, 33), []) == (33, 33)


def test_a_size_beyond_the_limits_is_refused_and_the_sentence_has_the_limits():
    for longer in (15, 513, 10**400):
        errors: Errors = []
        frame_size((3, 2), longer, card(), errors)
        [(field, detail)] = errors
        assert field == "size"
        assert detail.startswith("must be 16 to 512 pixels with test-model")


def test_a_small_picture_is_not_enlarged_by_default_but_by_diffusion_models():
    """It would be blurred, and take longer; a diffusion model knows only the size that it was trained for."""
    of_diffusion, other = (
        card(most=2048, side=1024).model_copy(update={"engine": name}) for name in ("diffusion", "style")
    )
    for shape, side in (((400, 300), 400), ((300, 400), 400), ((4000, 3000), 1024), ((60, 40), 256)):
        assert usual_side(shape, other) == side
        assert usual_side(shape, of_diffusion) == 1024
    assert usual_side((60, 40), card(least=512, most=2048, side=1024).model_copy(update={"engine": "style"})) == 512
