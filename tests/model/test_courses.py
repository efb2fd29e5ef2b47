"""Pictures and clips that a diffusion model restyles: the picture itself first, then more and more of the prompt."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from momalisa_model.cancellation import never
from momalisa_model.lifecycle import LoadedModel
from momalisa_model.recipes import BetweenRecipe, ClipRecipe, RestyleRecipe
from momalisa_model.wire import RenderRequest

DICE = np.random.default_rng(0)
A, B = "a" * 64, "b" * 64
FRACTIONS = [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.fixture(scope="module")
def ready(loaded_model) -> LoadedModel:
    return loaded_model("plain")


@pytest.fixture(scope="module")
def files(ready) -> dict[str, np.ndarray]:
    """Two pictures of noise that is not too fine."""
    size = (ready.card.height // 4, ready.card.width // 4, 3)
    return {key: DICE.integers(0, 256, size, np.uint8).repeat(4, 0).repeat(4, 1) for key in (A, B)}


def settings(ready: LoadedModel, **changes: Any) -> dict[str, Any]:
    names = ("width", "height", "model", "revision", "scheduler")
    fixed = {"negative_prompt": "", "strength": 0.6, "seed": 7, "num_inference_steps": 5, "guidance_scale": 4.0}
    return {name: getattr(ready.card, name) for name in names} | fixed | changes


def rendered(ready: LoadedModel, files: dict[str, np.ndarray], request: RenderRequest) -> list[np.ndarray]:
    prepared = ready.engine.prepare(request, files, never)
    finished = [frame for some in ready.engine.batches(request, prepared, files, never) for frame in some()]
    assert [frame.fraction for frame in finished] == request.fractions
    return [np.asarray(Image.open(io.BytesIO(frame.png))) for frame in finished]


def restyled(ready: LoadedModel, files: dict[str, np.ndarray], fractions: list[float], **changes: Any) -> list:
    recipe = RestyleRecipe(kind="restyle", picture=A, prompt="a woodcut", **settings(ready, **changes))
    return rendered(ready, files, RenderRequest(recipe=recipe, fractions=fractions))


def test_a_restyled_picture_begins_with_the_picture_itself(ready, files):
    """Not with what the VAE makes of it, which differs; the frames go away from it step by step."""
    frames = restyled(ready, files, FRACTIONS)
    away = [np.abs(frame.astype(float) - files[A]).mean() for frame in frames]
    assert away[0] == 0
    assert away[1] < away[2] < away[4]
    assert away[4] > 10


def test_the_still_is_the_picture_with_the_whole_strength(ready, files):
    """It equals the middle of a walk from the picture to itself, which equals the stock pipeline for pictures."""
    stops = {"start": "a woodcut", "end": "a woodcut", "start_picture": A, "end_picture": A}
    middle = RenderRequest(recipe=BetweenRecipe(**stops, **settings(ready)), fractions=[0.5])
    assert np.array_equal(restyled(ready, files, [1.0])[0], rendered(ready, files, middle)[0])


def test_a_restyled_frame_does_not_depend_on_the_other_frames_of_its_shard(ready, files):
    """Frames are shared between walks by recipe and fraction."""
    whole = restyled(ready, files, FRACTIONS)
    for place in (1, 4):
        assert np.array_equal(restyled(ready, files, [FRACTIONS[place]])[0], whole[place])
    assert not np.array_equal(restyled(ready, files, [1.0], strength=0.9)[0], whole[4])


def test_each_frame_of_a_clip_is_the_still_of_its_picture(ready, files):
    """With the same noise for all, so that what does not move in the clip does not flicker."""
    recipe = ClipRecipe(kind="clip", prompt="a woodcut", **settings(ready))
    sources = (A, B, A, A, B)
    frames = rendered(ready, files, RenderRequest(recipe=recipe, fractions=FRACTIONS, sources=sources))
    assert np.array_equal(frames[0], restyled(ready, files, [1.0])[0])
    for place, source in enumerate(sources):
        assert np.array_equal(frames[place], frames[sources.index(source)])
    assert not np.array_equal(frames[0], frames[1])


def test_words_that_had_no_effect_are_those_of_the_prompt(ready, files):
    """The caller knows no `start` and `end` of a restyled picture."""
    recipe = RestyleRecipe(kind="restyle", picture=A, prompt="many words " * 20, **settings(ready))
    prepared = ready.engine.prepare(RenderRequest(recipe=recipe, fractions=[0.0]), files, never)
    assert [warning.prompt for warning in prepared.warnings] == ["prompt"]
