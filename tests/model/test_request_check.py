"""Requests of other kinds than walks between stops, compared with the model that they name. No model is loaded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from momalisa_model.predict import PredictInstance, requests_of
from momalisa_model.problems import Invalid
from momalisa_model.recipes import ClipRecipe, RestyleRecipe
from momalisa_model.request_check import check, kinds_of
from momalisa_model.wire import ModelAnswer, ModelCard, RenderRequest
from tests.support.factories import CARD

A, B, C = "a" * 64, "b" * 64, "c" * 64
FACTS = {"width": CARD["width"], "height": CARD["height"], "model": CARD["model"], "revision": CARD["revision"]}
DIFFUSION = {"negative_prompt": "", "strength": 0.5, "seed": 1, "num_inference_steps": 2, "guidance_scale": 4.0}
PROMPT = {"prompt": "a woodcut", "scheduler": CARD["scheduler"], **DIFFUSION}
STYLES = [{"name": "starry", "title": "Starry"}, {"name": "waves", "title": "Waves"}]


def answer_of(engine: str, *features: str, **more: Any) -> ModelAnswer:
    fields = {**CARD, "engine": engine, **more}
    card = ModelCard.model_validate_json(json.dumps(fields))
    return ModelAnswer(card=card, fingerprint="f", made_of={}, features=features)


PAINTER = answer_of("diffusion", "restyle", "clip")
STYLER = answer_of("style", "restyle", "clip", styles=STYLES)


def restyle(way: dict[str, Any], *files: str, **more: Any) -> RenderRequest:
    recipe = RestyleRecipe(kind="restyle", picture=A, **way, **FACTS)
    return RenderRequest(recipe=recipe, fractions=[0.0, 1.0], pictures=dict.fromkeys((A, *files), ""), **more)


def clip(way: dict[str, Any], sources: list[str] | None, *files: str) -> RenderRequest:
    recipe = ClipRecipe(kind="clip", **way, **FACTS)
    return RenderRequest(recipe=recipe, fractions=[0.0, 1.0], pictures=dict.fromkeys(files, ""), sources=sources)


def refused(request: RenderRequest, answer: ModelAnswer) -> str:
    with pytest.raises(Invalid) as found:
        check(request, answer, 256)
    return str(found.value)


def test_each_engine_restyles_in_its_own_ways():
    """By a prompt with diffusion, and by a named style or a picture of it with the network for styles."""
    check(restyle(PROMPT), PAINTER, 256)
    check(restyle({"style": "waves"}), STYLER, 256)
    check(restyle({"style_picture": B}, B), STYLER, 256)
    assert "recipe.prompt must be null for this model" in refused(restyle(PROMPT), STYLER)
    assert "recipe.style must be null for this model" in refused(restyle({"style": "waves"}), PAINTER)
    assert "recipe.style_picture must be null" in refused(restyle({"style_picture": B}, B), PAINTER)
    assert "recipe.style must be one of starry, waves" in refused(restyle({"style": "mosaic"}), STYLER)


def test_settings_of_diffusion_are_limited_by_the_card_here_too():
    """Steps and schedulers, as for walks between stops."""
    many = PROMPT | {"num_inference_steps": CARD["max_steps"] + 1, "scheduler": "Unknown"}
    message = refused(restyle(many), PAINTER)
    assert "recipe.num_inference_steps must be from 1 to" in message
    assert "recipe.scheduler must be one of" in message


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ({}, "exactly one of style, style_picture and prompt"),
        ({"style": "waves", "style_picture": B}, "exactly one of style"),
        ({"style": "waves", "strength": 0.5}, "strength must be null without a prompt"),
        ({name: value for name, value in PROMPT.items() if name != "seed"}, "seed must be set with a prompt"),
    ],
)
def test_a_recipe_has_one_way_of_restyling_and_only_its_settings(way, message):
    """Otherwise two recipes would be one picture, or a replica would have to add defaults."""
    with pytest.raises(ValidationError, match=message):
        restyle(way)


def test_a_clip_has_a_picture_for_each_fraction():
    """And the files of these pictures, each once."""
    check(clip(PROMPT, [A, B], A, B), PAINTER, 256)
    check(clip({"style": "waves"}, [A, A], A), STYLER, 256)
    for sources in (None, [A], [A, A, A]):
        assert "sources must have one item for each fraction" in refused(clip(PROMPT, sources, A), PAINTER)
    assert f"pictures.{B} is required" in refused(clip(PROMPT, [A, B], A), PAINTER)
    assert f"pictures.{C} must be left out" in refused(clip(PROMPT, [A, A], A, C), PAINTER)


def test_kinds_without_extras_refuse_them():
    """The caller would wait for files that never come."""
    assert "extras must be false for the kind restyle" in refused(restyle(PROMPT, extras=True), PAINTER)


def test_a_model_says_which_kinds_it_renders():
    """Only diffusion walks between stops; the others are features, which replicas of the last release lack."""
    assert kinds_of(PAINTER) == ["between", "restyle", "clip"]
    assert kinds_of(STYLER) == ["restyle", "clip"]
    assert "recipe.kind must be between for" in refused(restyle(PROMPT), answer_of("diffusion", "pictures"))


def test_predictions_of_platforms_are_of_walks_between_stops_only():
    """Their requests and answers are too small for clips and extras."""
    recipe = RestyleRecipe(kind="restyle", picture=A, **PROMPT, **FACTS)
    with pytest.raises(Invalid, match=r"recipe\.kind must be between here; POST /v1/render has all kinds"):
        requests_of([PredictInstance(recipe=recipe, fraction=0.5, pictures={A: ""})])
