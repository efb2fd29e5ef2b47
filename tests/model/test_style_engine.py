"""The style engine: restyled pictures and clips, with the networks and styles that come with the service."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from atelier.scenes import paint_scene
from atelier.styles import STYLES
from momalisa_model.cancellation import Cancelled
from momalisa_model.engines import style_weights
from momalisa_model.engines.style import StyleEngine, load_style
from momalisa_model.engines.style_network import StyleNetwork, weight_names
from momalisa_model.model_recipe import read_recipes, source_of
from momalisa_model.problems import UnsuitableModel
from momalisa_model.settings import Settings
from tests.support.model_server import Server
from tests.support.recipes import write_recipe

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def cut(scene: Pixels, width: int, height: int) -> Pixels:
    return np.ascontiguousarray(scene[:height, :width])


SCENE: Pixels = paint_scene(np.random.default_rng(4), 96).picture
OTHER: Pixels = paint_scene(np.random.default_rng(5), 96).picture


def file_of(picture: Pixels) -> tuple[str, str]:
    """The SHA-256 of a picture's file, and the file in base64."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return hashlib.sha256(file.getvalue()).hexdigest(), base64.b64encode(file.getvalue()).decode()


def pixels(png: str) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    file = write_recipe(tmp_path_factory.mktemp("styles"), "styles", style_weights.PACKAGE, engine="style")
    with Server(Settings(recipes=str(file), device="cpu", threads=1, port=0)) as running:
        yield running


def body(
    replica: Server, fractions: list[float], picture: Pixels, sources: Sequence[Pixels] = (), **recipe: Any
) -> dict[str, Any]:
    card = replica.app.state.replica.ready()[0].card
    height, width, _ = picture.shape
    fields: dict[str, Any] = {"width": width, "height": height, "model": card.model, "revision": card.revision}
    files = dict(map(file_of, sources or [picture]))
    kind: dict[str, Any] = {"kind": "clip"} if sources else {"kind": "restyle", "picture": file_of(picture)[0]}
    if isinstance(look := recipe.pop("look", None), np.ndarray):
        files |= [file_of(look)]
        recipe["style_picture"] = file_of(look)[0]
    more = {"sources": [file_of(source)[0] for source in sources]} if sources else {}
    return {"recipe": fields | kind | recipe, "fractions": fractions, "pictures": files} | more


def frames(replica: Server, *args: Any, **recipe: Any) -> list[Pixels]:
    answer = httpx.post(f"{replica.url}/v1/render", json=body(replica, *args, **recipe), timeout=60)
    assert answer.status_code == 200, answer.text
    return [pixels(line["png"]) for line in map(json.loads, answer.text.splitlines()[1:])]


def far(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def test_a_replica_without_settings_for_it_offers_all_styles(replica: Server):
    """People choose by titles; each style needs a picture, and each picture of the atelier is one."""
    answer = replica.get("/v1/model").json()
    assert answer["features"] == ["restyle", "clip"]
    assert [style["name"] for style in answer["card"]["styles"]] == sorted(STYLES)
    assert {"name": "stained-glass", "title": "Stained glass"} in answer["card"]["styles"]
    assert answer["made_of"]["onnxruntime"] == onnxruntime.__version__


def test_a_walk_begins_with_the_picture_itself_and_its_steps_look_equal(replica: Server):
    """The first frame is what somebody has uploaded. Also at a size that the network must fill up."""
    picture = cut(SCENE, 94, 70)
    walk = frames(replica, [i / 6 for i in range(7)], picture, style="waves")
    assert np.array_equal(walk[0], picture)
    assert all(frame.shape == picture.shape for frame in walk)
    steps = [far(one, other) for one, other in pairwise(walk)]
    assert min(steps) > 0.6 * max(steps)
    assert far(walk[0], walk[-1]) > 20


def test_a_frame_does_not_depend_on_its_shard(replica: Server):
    """The API divides walks as replicas are free, and stores each frame once."""
    picture = cut(SCENE, 48, 48)
    together = frames(replica, [0.25, 0.5, 1.0], picture, style="ink")
    frames(replica, [0.5], OTHER, style="ink")
    for number, fraction in ((1, 0.5), (2, 1.0)):
        assert np.array_equal(frames(replica, [fraction], picture, style="ink")[0], together[number])


def test_a_picture_may_be_twenty_times_as_long_as_it_is_wide(replica: Server):
    """The way is measured on a small copy, whose sides must not be too short for the network."""
    picture = np.tile(cut(SCENE, 80, 32), (1, 8, 1))
    for long in (picture, np.ascontiguousarray(picture.transpose(1, 0, 2))):
        assert np.array_equal(frames(replica, [0.0], long, style="ink")[0], long)


def test_any_picture_is_a_style(replica: Server):
    """Its colours reach the picture; another picture gives another result."""
    red, blue = np.full((40, 30, 3), (200, 30, 30), np.uint8), np.full((40, 30, 3), (30, 30, 200), np.uint8)
    reddish, bluish = (frames(replica, [1.0], SCENE, look=look)[0] for look in (red, blue))
    assert (reddish - reddish.mean(axis=2, keepdims=True)).mean((0, 1))[0] > (
        bluish - bluish.mean(axis=2, keepdims=True)
    ).mean((0, 1))[0]


def test_each_frame_of_a_clip_is_its_own_source_in_full_style(replica: Server):
    """Whatever its fraction and its neighbours are: it equals the last frame of the restyled picture."""
    one, other = cut(SCENE, 64, 48), cut(OTHER, 64, 48)
    painted = frames(replica, [0.1, 0.2, 0.3], one, [one, other, one], style="mosaic")
    assert np.array_equal(painted[0], painted[2])
    assert not np.array_equal(painted[0], painted[1])
    assert np.array_equal(frames(replica, [1.0], other, style="mosaic")[0], painted[1])


def test_a_prompt_is_refused(replica: Server):
    """The networks read no text."""
    settings = {"negative_prompt": "", "strength": 0.5, "seed": 1, "guidance_scale": 0.0, "scheduler": "none"}
    wrong = body(replica, [1.0], SCENE, prompt="a woodcut", num_inference_steps=1, **settings)
    answer = httpx.post(f"{replica.url}/v1/render", json=wrong)
    assert answer.status_code == 422
    assert "recipe.prompt" in answer.text


@pytest.fixture(scope="module")
def network() -> StyleNetwork:
    torch.set_num_threads(1)
    weights = style_weights.read_weights(style_weights.network_file(style_weights.PAINTER), list(weight_names()))
    return StyleNetwork(weights, torch.device("cpu"))


def test_the_network_paints_what_the_file_of_the_package_paints(network: StyleNetwork):
    """Its layers are written again here; only the file's rounding to eight bits may differ."""
    predictor, painter = (
        style_weights.session(style_weights.network_file(name), 1)
        for name in (style_weights.PREDICTOR, style_weights.PAINTER)
    )
    look = np.asarray(Image.fromarray(OTHER).resize((256, 256)), np.float32)[None] / 255
    (vector,) = predictor.run(None, {"style_image": look})
    large = np.asarray(Image.fromarray(SCENE).resize((384, 384)))
    content, style = (one.name for one in painter.get_inputs())
    (theirs,) = painter.run(None, {content: large.astype(np.float32)[None] / 255, style: vector})
    ours = network.paint(large.copy(), vector.ravel(), places=[(0, 0)]).numpy()
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.96


def test_a_moved_picture_stays_painted_as_it_was(network: StyleNetwork):
    """A clip that pans would flicker if the paint depended on the place in the picture."""
    dice = np.random.default_rng(1)
    vector = dice.normal(size=100).astype(np.float32)
    wide = np.asarray(Image.fromarray(SCENE).resize((160, 96)))

    def flicker(paint: Any) -> float:
        here, moved = (paint(np.ascontiguousarray(wide[:, first : first + 128])) for first in (0, 2))
        return float(np.abs(here[16:-16, 18:-16] - moved[16:-16, 16:-18]).mean())

    assert flicker(lambda picture: network.paint(picture, vector).numpy()) < 0.5 * flicker(
        lambda picture: network.paint(picture, vector, places=[(0, 0)]).numpy()
    )


def test_painting_stops_when_nobody_waits_for_it(network: StyleNetwork):
    """A large picture takes seconds."""
    with pytest.raises(Cancelled):
        network.paint(SCENE, np.zeros(100, np.float32), lambda: True)


def load(folder: Path, **card: Any) -> StyleEngine:
    file = write_recipe(folder, "mine", folder, engine="style", card=card)
    (recipe,) = read_recipes([str(file)])
    engine = load_style(source_of(recipe, Settings(device="cpu", threads=1)), lambda _: None).engine
    assert isinstance(engine, StyleEngine)
    return engine


def test_a_folder_of_pictures_is_a_model_with_these_styles(tmp_path: Path):
    """Operators offer their own styles; a title without a picture, or a file that is none, is said at the start."""
    with pytest.raises(UnsuitableModel, match="has no pictures"):
        load(tmp_path)
    Image.fromarray(SCENE).save(tmp_path / "my-scene.png")
    assert load(tmp_path, styles=[{"name": "my-scene", "title": "Ours"}]).features == ("restyle", "clip")
    with pytest.raises(UnsuitableModel, match="without a picture: theirs"):
        load(tmp_path, styles=[{"name": "theirs", "title": "Theirs"}])
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(UnsuitableModel, match="The style broken"):
        load(tmp_path)
