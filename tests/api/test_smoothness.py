"""The smoothness of walks: known steps have known results, and nothing divides by zero."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from momalisa_api.walks.smoothness import distance, edge, find_jumps, gauge
from tests.support.factories import ended, running
from tests.support.films import measured


def grey(level: int) -> Image.Image:
    return Image.new("RGB", (16, 16), (level, level, level))


def test_black_and_white_have_the_maximal_distance() -> None:
    """All distances are relative to it."""
    assert distance(grey(0), grey(255)) == 1.0
    assert distance(grey(0), grey(51)) == pytest.approx(0.2)
    assert distance(grey(7), grey(7)) == 0.0


def test_equal_steps_are_even_and_one_large_step_is_not() -> None:
    """Users notice walks that stand still and then jump."""
    even = measured([grey(level) for level in range(0, 250, 25)])
    assert (even.evenness, even.largest, even.deviation) == (1.0, 1.0, 0.0)
    jumpy = measured([grey(0)] * 5 + [grey(250)] * 5)
    assert [(jump.frame, jump.times) for jump in jumpy.jumps] == [(5, 9.0)]
    assert jumpy.evenness == pytest.approx(1 / 9, abs=1e-4)
    assert jumpy.largest == 9.0


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=60))
def test_evenness_is_between_zero_and_one(steps: list[float]) -> None:
    """It does not depend on the scale of the steps."""
    evenness, largest, deviation = gauge(steps)
    assert evenness is not None
    assert largest is not None
    assert 0 <= evenness <= 1
    assert 1 - 1e-4 <= largest <= len(steps)
    assert deviation >= 0
    assert gauge([step * 0.5 for step in steps])[0] == pytest.approx(evenness, abs=2e-4)


@pytest.mark.parametrize("count", [2, 3, 4, 9])
def test_a_walk_that_does_not_move_has_no_evenness(count: int) -> None:
    """It is neither even nor uneven."""
    still = measured([grey(90)] * count)
    assert (still.evenness, still.largest, still.deviation, still.sharpness) == (None, None, 0.0, None)


def test_a_walk_that_fades_is_less_sharp_in_the_middle() -> None:
    """Blurring alone would improve smoothness, so sharpness is measured too."""
    board = Image.effect_noise((64, 64), 80).convert("RGB")
    faded = board.filter(ImageFilter.GaussianBlur(2))
    assert edge(faded) < edge(board) / 4
    fading = measured([board, board, faded, faded, board, board])
    assert fading.sharpness is not None
    assert fading.sharpness < 0.5
    assert measured([board] * 6).sharpness == 1.0


def test_a_jump_is_a_step_of_more_than_three_times_the_mean() -> None:
    """Visitors see it as a jump, whether the frames are evenly spaced or not."""
    [jump] = find_jumps([0.1] * 8 + [1.0])
    assert (jump.frame, jump.times) == (9, 5.0)
    assert not find_jumps([0.1] * 8 + [0.3])
    assert not find_jumps([0.0] * 8)


@pytest.mark.anyio
async def test_a_finished_walk_has_its_smoothness(settings, fleet):
    """The resource reports it, for every kind of spacing."""
    async with running(settings, fleet) as client:
        request = {"start": "a giraffe", "end": "a battleship", "frames": 5}
        moving = await ended(client, (await client.post("/api/v1/walks", json=request)).json())
        ease = await ended(client, (await client.post("/api/v1/walks", json={**request, "spacing": "ease"})).json())
        unknown = await client.post("/api/v1/walks", json={**request, "spacing": "wide"})
    assert moving["smoothness"]["evenness"] > 0.9
    assert ease["smoothness"]["evenness"] < moving["smoothness"]["evenness"]
    assert ease["id"] != moving["id"]
    assert unknown.status_code == 422


@pytest.mark.anyio
async def test_a_walk_that_does_not_move_has_a_warning(settings, fleet):
    """The model may render two stops alike."""
    fleet.add(paint=lambda recipe, _: _png_of(recipe))
    async with running(settings, fleet) as client:
        request = {"start": "a giraffe", "end": "a giraffe", "frames": 5}
        walk = await ended(client, (await client.post("/api/v1/walks", json=request)).json())
    assert walk["state"] == "done"
    assert walk["smoothness"]["evenness"] is None
    assert any("the same picture" in warning for warning in walk["warnings"])


def _png_of(recipe: dict[str, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (recipe["width"], recipe["height"]), "red").save(out, "PNG")
    return out.getvalue()
