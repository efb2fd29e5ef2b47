"""A diffusion model that paints what the camera uncovers: where, with which bits, and as part of which model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import diffusers
import numpy as np
import pytest
import torch

from atelier.scenes import paint_scene
from momalisa_model.cancellation import Cancelled, never
from momalisa_model.engines.engine import LoadedEngine
from momalisa_model.engines.loading import load_engine
from momalisa_model.engines.parallax_fill import repainted
from momalisa_model.engines.parallax_inpaint import load_painter
from momalisa_model.engines.parallax_motion import largest_move
from momalisa_model.engines.parallax_painter import Painter
from momalisa_model.engines.parallax_scene import build_scene
from momalisa_model.fetch import fetch_recipes
from momalisa_model.model_recipe import read_recipe, sources_of
from momalisa_model.problems import DownloadFailed, UnsuitableModel
from momalisa_model.settings import ModelSource, Settings, embedded_model
from momalisa_model.wire import RenderRequest
from tests.support.hub import COMMIT
from tests.support.recipes import write_recipe
from tests.support.small_families import small_family

SIZE = 96
CPU = torch.device("cpu")
PICTURE = paint_scene(np.random.default_rng(1), SIZE).picture


def saved(folder: Path, pipeline: Any, **card: int) -> Path:
    """The folder of a model that paints in few steps."""
    pipeline.save_pretrained(folder)
    (folder / "card.json").write_text(json.dumps({"num_inference_steps": 3} | card))
    return folder


def load(setting: object) -> Painter:
    return load_painter(str(setting), ModelSource(model_id="depth"), CPU, print)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of Stable Diffusion with random weights."""
    return saved(tmp_path_factory.mktemp("fill") / "painter", small_family("sd"))


@pytest.fixture(scope="module")
def painter(model: Path) -> Painter:
    return load(model)


@pytest.fixture(scope="module")
def loaded(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedEngine]:
    """The embedded model for depth by its recipe, alone and with a model that fills."""
    folder = tmp_path_factory.mktemp("recipes")
    files = [
        write_recipe(folder, name, "atelier-depth", engine="parallax", card={"about": {"summary": "Depth."}}, **more)
        for name, more in (("alone", {}), ("filled", {"fill_model": str(model)}))
    ]
    settings = Settings(recipes=" ".join(map(str, files)), device="cpu", threads=1, port=0)
    return {source.name: load_engine(source, print) for source in sources_of(settings)}


def render(loaded: LoadedEngine, *fractions: float) -> dict[float, bytes]:
    """The frames at some fractions, from an engine that has kept nothing."""
    key = "ab" * 32
    recipe = {"kind": "into", "picture": key, "motion": "sway", "amplitude": 1.0, "model": loaded.card.model}
    recipe |= {"width": SIZE, "height": SIZE, "revision": loaded.card.revision}
    request = RenderRequest.model_validate_json(json.dumps({"recipe": recipe, "fractions": fractions}))
    engine = type(loaded.engine)(loaded.engine._network, loaded.engine._painter)  # type: ignore[attr-defined]
    pictures = {key: PICTURE}
    prepared = engine.prepare(request, pictures, never)
    frames = (frame for finish in engine.batches(request, prepared, pictures, never) for frame in finish())
    return {frame.fraction: frame.png for frame in frames}


def test_only_what_the_camera_may_uncover_is_painted(painter: Painter):
    """A person's own pixels stay theirs bit for bit, and nothing is painted that nobody can see."""
    y, x = np.mgrid[:SIZE, :SIZE]
    inside = np.hypot(x - SIZE / 2, y - SIZE / 2) < 30
    picture = np.where(inside[..., None], (200, 40, 40), (40, 60, 200)).astype(np.uint8)
    depth = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1)
    paint = partial(painter.paint, seed=1, should_stop=never)
    for amplitude in (0.5, 1.0):
        alone = build_scene(picture, depth, amplitude).layers
        filled = build_scene(picture, depth, amplitude, paint).layers
        changed = (filled[0].pixels != alone[0].pixels).any(-1)
        near = alone[1].pixels[..., 3] > 127
        assert not changed[~near].any()
        from_rim = cv2.distanceTransform(near.astype(np.uint8), cv2.DIST_L2, 5)
        assert not changed[from_rim > 2 * largest_move(amplitude) * SIZE + 4].any()
        assert changed[(from_rim > 1.5) & (from_rim < largest_move(amplitude) * SIZE)].mean() > 0.9
        assert np.array_equal(filled[1].pixels, alone[1].pixels)


def test_painted_pixels_come_from_the_diffusion_model(painter: Painter):
    """They begin as the continuation at the rim, so that no seam is seen, and become the model's paint behind it."""
    hidden = np.zeros((SIZE, SIZE), bool)
    hidden[:, 40:80] = True
    paint = partial(painter.paint, seed=1, should_stop=never)
    found = repainted(PICTURE, hidden, 12, paint)
    where = hidden.copy()
    where[:, 51:69] = False  # 12 pixels from the rims
    theirs = paint(PICTURE, where)
    assert np.array_equal(found[~where], PICTURE[~where])
    assert np.array_equal(found[:, 44:51], theirs[:, 44:51])
    assert np.abs(theirs[:, 44:51].astype(int) - PICTURE[:, 44:51]).mean() > 10


def test_frames_have_the_same_bits_in_any_order_of_shards(loaded):
    """Two replicas with one fingerprint render a walk together, and each of them paints for itself."""
    both = render(loaded["filled"], 0.25, 0.6)
    assert render(loaded["filled"], 0.6) | render(loaded["filled"], 0.25) == both
    assert both != render(loaded["alone"], 0.25, 0.6)


def test_other_pictures_get_other_noise(painter: Painter):
    """One pattern of noise that returns in all pictures would be recognised."""
    where = np.ones((SIZE, SIZE), bool)
    one, again, other = (painter.paint(PICTURE, where, seed, never) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert (one != other).any()


def test_painting_stops_between_two_steps(painter: Painter):
    """A visitor who leaves must not keep the device for minutes."""
    answers = iter([False, True])
    with pytest.raises(Cancelled):
        painter.paint(PICTURE, np.ones((SIZE, SIZE), bool), 1, lambda: next(answers))


def test_the_model_that_fills_is_part_of_revision_fingerprint_and_card(loaded, model, tmp_path):
    """Frames with and without it are stored side by side, and people see which model they choose."""
    alone, filled = loaded["alone"], loaded["filled"]
    assert alone.made_of["weights"] == alone.card.revision != filled.card.revision == filled.made_of["weights"]
    assert alone.card.about.summary == "Depth."
    assert filled.card.about.summary == "Depth. What the camera uncovers is painted by painter."
    assert str(filled.made_of["fill"]).startswith("painter ")
    assert not [name for name in alone.made_of if name.startswith(("fill", "paint", "diffusers"))]
    # A card that was printed for both together, as `momalisa-model card` does, also loads.
    card = tmp_path / "card.json"
    card.write_text(filled.card.model_dump_json())
    file = write_recipe(tmp_path, "filled", "atelier-depth", engine="parallax", fill_model=str(model))
    (source,) = sources_of(Settings(recipes=str(file), model_card=card, device="cpu", threads=1, port=0))
    assert load_engine(source, print).card == filled.card


def test_without_a_model_that_fills_no_pipelines_are_imported(loaded, tmp_path, monkeypatch):
    """They need seconds and memory at each start."""
    name = load_painter.__module__
    monkeypatch.delitem(sys.modules, name)
    file = write_recipe(tmp_path, "alone", "atelier-depth", engine="parallax")
    (source,) = sources_of(Settings(recipes=str(file), device="cpu", threads=1))
    assert load_engine(source, print).made_of == loaded["alone"].made_of
    assert name not in sys.modules


def test_a_model_that_was_trained_to_inpaint_paints_too(tmp_path):
    """Such models are the best for it. Their UNet also reads the mask."""
    parts = small_family("sd").components
    parts["unet"] = diffusers.UNet2DConditionModel.from_config({**parts["unet"].config, "in_channels": 9})
    pipeline = diffusers.StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    painter = load(saved(tmp_path / "inpainting", pipeline))
    assert painter.paint(PICTURE, np.ones((SIZE, SIZE), bool), 1, never).std() > 1


@pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated:FutureWarning")  # diffusers calls it itself
@pytest.mark.parametrize(("name", "dtype"), [("sdxl", "float16"), ("flux", "bfloat16")])
def test_other_families_paint_too_in_half_precision(tmp_path, name, dtype):
    """The VAE of SDXL changes its precision in the pipeline, and FLUX reads the guidance as a number."""
    folder = saved(tmp_path / name, small_family(name), width=64, height=64, min_size=32, max_size=128)
    painter = load_painter(str(folder), ModelSource(model_id="depth", dtype=dtype), CPU, print)
    assert painter.paint(PICTURE[:64], np.ones((64, SIZE), bool), 1, never).shape == (64, SIZE, 3)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("/nowhere/at-all", "The folder in fill_model does not exist"),
        (embedded_model("atelier-depth"), "no readable model_index.json"),
        (embedded_model("atelier"), "atelier in fill_model cannot inpaint: .* not 12"),
    ],
)
def test_a_model_that_cannot_fill_is_refused_at_the_start(setting, message):
    """The reason names the setting, which is not that of the model for depth."""
    with pytest.raises(UnsuitableModel, match=message):
        load(setting)


def test_a_family_that_cannot_inpaint_is_refused_before_its_weights_are_read(tmp_path):
    """Nobody downloads gigabytes in vain."""
    (tmp_path / "model_index.json").write_text('{"_class_name": "Flux2KleinPipeline"}')
    with pytest.raises(UnsuitableModel, match=r"which cannot inpaint. Use .* FLUX.1"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"engine": "diffusion", "fill_model": "owner/name"}, "for the engine parallax only"),
        ({"engine": "parallax", "fill_model": "owner/name/unet"}, "whole model"),
        ({"engine": "parallax", "fill_model": "owner/name:0.5"}, "whole model"),
    ],
)
def test_a_recipe_with_a_wrong_model_that_fills_is_refused(tmp_path, fields, message):
    """The reason is there before anything is downloaded."""
    file = write_recipe(tmp_path, "wrong", "someone/depth", **fields)
    with pytest.raises(UnsuitableModel, match=message):
        read_recipe(str(file))


@pytest.fixture
def hub(model: Path, hub_of: Callable) -> Iterator[Any]:
    with hub_of(model) as running:
        yield running


def test_a_model_that_fills_is_fetched_beside_an_embedded_one(hub, tmp_path):
    """Replicas of a cluster have no network: what their recipes name is in MOMALISA_WEIGHTS."""
    file = write_recipe(tmp_path, "filled", "atelier-depth", engine="parallax", fill_model="someone/small@main")
    settings = Settings(recipes=str(file), weights=tmp_path / "weights", device="cpu", threads=1, port=0)
    (source,) = sources_of(settings)
    with pytest.raises(DownloadFailed, match="lacks someone/small at main"):
        load_engine(source, print)
    fetch_recipes(settings, [])
    hub.down = True
    fetch_recipes(settings, [])
    assert load_engine(source, print).made_of["fill"] == f"someone/small {COMMIT}"
