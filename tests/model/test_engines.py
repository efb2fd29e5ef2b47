"""Engines behind one Protocol: an example that is no diffusion model is loaded, checked and served like all others."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from momalisa_model.app import print_card
from momalisa_model.engines.loading import ENGINES
from momalisa_model.lifecycle import LoadedModel
from momalisa_model.pictures import base64_bytes, max_file_bytes
from momalisa_model.problems import UnsuitableModel
from momalisa_model.replica import bytes_of_pictures
from momalisa_model.settings import Settings
from momalisa_model.tune import tune
from momalisa_model.wire import ModelAnswer, ModelCard
from tests.support.example_engine import ExampleEngine, moved
from tests.support.factories import CARD
from tests.support.model_server import Server
from tests.support.recipes import write_recipe

SHADES = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)


def png_of(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


FILE = png_of(SHADES)
KEY = hashlib.sha256(FILE).hexdigest()


@pytest.fixture(scope="module")
def mixed(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A replica with a diffusion model and the example."""
    folder = tmp_path_factory.mktemp("recipes")
    files = [
        write_recipe(folder, "plain", models["plain"]),
        write_recipe(folder, "example", folder, engine="parallax"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES, "parallax", "tests.support.example_engine")
        settings = Settings(recipes=" ".join(map(str, files)), device="cpu", threads=1, port=0)
        with Server(settings) as running:
            yield running


def body_for(server: Server, **changes: Any) -> dict[str, Any]:
    card = server.app.state.replica.ready()[1].card
    recipe = {"kind": "into", "picture": KEY, "motion": "sway", "amplitude": 0.5, "width": 16, "height": 16}
    recipe |= {"model": card.model, "revision": card.revision} | changes.pop("recipe", {})
    return {"recipe": recipe, "fractions": [0, 0.25, 0.5], "pictures": {KEY: base64.b64encode(FILE).decode()}} | changes


def lines_of(server: Server, **changes: Any) -> list[dict[str, Any]]:
    answer = httpx.post(server.url + "/v1/render", json=body_for(server, **changes), timeout=30)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def pixels(file: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(file))))


def test_an_engine_tells_what_it_renders_in_a_card_of_its_own(mixed):
    """The API chooses a model by features, engine and styles. A diffusion model's card names no engine, as before."""
    plain, example = mixed.get("/v1/models").json()["models"]
    assert "engine" not in plain["card"]
    assert {"name": "woodcut", "title": "Woodcut"}.items() <= plain["card"]["styles"][4].items()
    assert plain["features"] == ["early_blend", "pictures", "restyle", "clip"]
    card = example["card"]
    assert (card["engine"], card["model"], card["schedulers"]) == ("parallax", "example", ["none"])
    assert (card["max_steps"], card["guidance_scale"], card["size_multiple"]) == (1, 0.0, 2)
    assert "styles" not in card
    assert example["features"] == ["into"]
    assert example["made_of"]["numpy"] == np.__version__


def test_frames_of_another_engine_are_rendered_beside_a_diffusion_model(mixed):
    """One replica holds both, and each recipe gets its own."""
    head, *frames = lines_of(mixed)
    assert head["model"] == "example"
    for frame, fraction in zip(frames, (0, 0.25, 0.5), strict=True):
        assert np.array_equal(pixels(frame["png"]), moved(255 - SHADES, fraction))
    assert mixed.render([0.5]).status_code == 200
    assert mixed.metric("frames_total", model="example") == 3
    assert mixed.metric("extras_total", model="example") == 0


def test_extras_come_before_the_first_frame_if_the_caller_wants_them(mixed):
    """The API stores them before any frame of the shard, so that a finished walk has them."""
    _, extra, *frames = lines_of(mixed, extras=True)
    assert (extra["extra"], extra["media_type"]) == ("depth.png", "image/png")
    assert np.array_equal(pixels(extra["data"]), 255 - SHADES)
    assert [frame["fraction"] for frame in frames] == [0, 0.25, 0.5]
    assert mixed.metric("extras_total", model="example") == 1
    assert all("extra" not in line for line in lines_of(mixed))


def test_a_recipe_is_prepared_once_for_all_its_shards(mixed):
    """Estimating depth takes longer than a frame."""
    engine = mixed.app.state.replica.ready()[1].engine
    lines_of(mixed)
    before = engine.prepared
    lines_of(mixed, fractions=[0.75])
    assert engine.prepared == before
    lines_of(mixed, recipe={"amplitude": 0.7})
    assert engine.prepared == before + 1


WRONG = {
    "an unknown kind": ({"kind": "around"}, {}, "recipe.kind must be one of between, into"),
    "a kind of another engine": (
        {"kind": "apart", "threshold": 0.5, "most": 3, "motion": None, "amplitude": None},
        {},
        "recipe.kind must be into",
    ),
    "a missing field": ({"motion": None}, {}, "recipe.motion is required"),
    "a field of another kind": ({"seed": 3}, {}, "recipe.seed is not a known field"),
    "a wrong value": ({"amplitude": 2.0}, {}, "recipe.amplitude must be less than or equal to 1"),
    "sources of a clip": ({}, {"sources": [KEY] * 3}, "sources must be left out for the kind into"),
    "no file": ({}, {"pictures": {}}, f"pictures.{KEY} is required"),
    "another size": ({"width": 32}, {}, "must have 32 x 16 pixels"),
    "a size that the card does not allow": ({"width": 66}, {}, "recipe.width must be a multiple of 2"),
}


@pytest.mark.parametrize(("recipe", "request_", "message"), WRONG.values(), ids=WRONG)
def test_requests_are_checked_by_their_kind(mixed, recipe, request_, message):
    """Each message names the field as the caller knows it, without the names of classes."""
    body = body_for(mixed, recipe=recipe, **request_)
    body["recipe"] = {name: value for name, value in body["recipe"].items() if value is not None}
    answer = httpx.post(mixed.url + "/v1/render", json=body, timeout=30)
    assert answer.status_code == 422
    assert message in answer.json()["detail"]


def test_the_card_of_another_engine_is_printed_and_its_micro_batch_is_not_measured(mixed, capsys):
    """`momalisa-model card` is how operators begin a card of their own."""
    settings = mixed.app.state.replica.settings
    only = settings.model_copy(update={"recipes": settings.recipes.split()[1]})
    print_card(only)
    printed = capsys.readouterr().out  # the log may be before it
    assert json.loads(printed[printed.index("{\n") :]) == mixed.get("/v1/models").json()["models"][1]["card"]
    with pytest.raises(UnsuitableModel, match="only micro-batches of diffusion models are measured"):
        tune(only, 0.9)


def test_a_body_may_have_a_micro_batch_of_a_clip_and_a_picture_in_the_style():
    """A shard of a clip is larger than two pictures; a model without clips gets no larger bodies for it."""
    card = ModelCard.model_validate_json(json.dumps({**CARD, "engine": "style"}))
    largest = [
        LoadedModel(ExampleEngine(1), ModelAnswer(card=card, fingerprint="f", made_of={}, features=features))
        for features in ((), ("into",), ("restyle", "clip"))
    ]
    one = base64_bytes(max_file_bytes(card.max_size, card.max_size))
    assert [bytes_of_pictures(model) for model in largest] == [0, 2 * one, (card.micro_batch + 1) * one]
