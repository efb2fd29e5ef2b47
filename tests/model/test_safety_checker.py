"""A model's own safety checker over HTTP: frames that it objects to are marked, and rendered like all others."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from momalisa_model.lifecycle import load_model
from momalisa_model.problems import UnsuitableModel
from momalisa_model.safety_checker import SafetyChecker
from momalisa_model.settings import Settings
from momalisa_model.weights import load
from tests.support.model_server import Server
from tests.support.small_models import with_safety_checker

FRACTIONS = [0.0, 0.25, 0.5, 0.75, 1.0]
ALL, NONE = -1.1, 1.1
# Even a network as small as this one can tell them apart.
COLOURS = ("black", "white", "red", "blue", "gold")


def frames_of(answer: httpx.Response) -> list[dict]:
    """The frames of a render response."""
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()[1:]]


def picture_of(frame: dict) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(frame["png"])))


@pytest.fixture(scope="module")
def checked(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder with the plain model and a checker: see with_safety_checker. It has the plain model's name."""

    def folder(threshold: float, dislikes: Image.Image | None = None) -> Path:
        return with_safety_checker(models["plain"], tmp_path_factory.mktemp("checked") / "plain", threshold, dislikes)

    return folder


@pytest.fixture(scope="module")
def unchecked(server: Server) -> list[dict]:
    """The frames of the plain model, which has no safety checker."""
    return frames_of(server.render(FRACTIONS))


@pytest.fixture(scope="module")
def strict(checked: Callable[..., Path], settings_for: Callable[..., Settings]) -> Iterator[Server]:
    """A replica whose model objects to everything."""
    with Server(settings_for(str(checked(ALL)))) as running:
        yield running


def test_a_frame_that_the_checker_objects_to_is_marked_and_not_blackened(strict, unchecked):
    """A frame is stored for ever under its recipe: a checker must not change its bytes."""
    frames = frames_of(strict.render(FRACTIONS))
    assert [frame["marked"] for frame in frames] == [True] * 5
    assert [frame["png"] for frame in frames] == [frame["png"] for frame in unchecked]
    assert strict.metric("marked_total") == 5


def test_a_checker_that_objects_to_nothing_marks_nothing(checked, settings_for, unchecked):
    """A mark removes a walk from the gallery, so a checker alone must not cause one."""
    with Server(settings_for(str(checked(NONE)))) as lenient:
        frames = frames_of(lenient.render(FRACTIONS))
        assert lenient.metric("marked_total") == 0
    assert [frame["marked"] for frame in frames] == [False] * 5
    assert [frame["png"] for frame in frames] == [frame["png"] for frame in unchecked]


def test_without_a_checker_nothing_is_marked(unchecked):
    """The atelier has no checker."""
    assert [frame["marked"] for frame in unchecked] == [False] * 5


def test_a_mark_depends_on_its_frame_only(checked, settings_for, unchecked):
    """Alone, between others, or in a second micro-batch: only the picture that the checker dislikes is marked."""
    with Server(settings_for(str(checked(0.98, picture_of(unchecked[1]))))) as server:
        for fractions in ([0.25], [0.0, 0.25, 1.0], [1.0, 0.75, 0.5, 0.0, 0.25], [0.0, 0.5]):
            marked = [frame["fraction"] for frame in frames_of(server.render(fractions)) if frame["marked"]]
            assert marked == [0.25] * (0.25 in fractions)


def test_the_checker_sees_whole_micro_batches_only(strict):
    """The last bits of its scores depend on the batch size, and could change a mark near the threshold."""
    seen = []
    network = strict.ready.engine.sampler.weights.safety_checker.network
    hook = network.vision_model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    try:
        strict.render([0.5])
        strict.render(FRACTIONS)
    finally:
        hook.remove()
    assert seen == [4, 4, 4]


def test_marks_equal_those_of_the_stock_pipeline(checked):
    """The checker is that of diffusers, with the same preprocessing."""
    pictures = [Image.new("RGB", (40, 32), colour) for colour in COLOURS]
    folder = checked(0.8, pictures[0])
    stock = StableDiffusionPipeline.from_pretrained(folder)
    _, expected = stock.run_safety_checker(np.stack(pictures) / 255, "cpu", torch.float32)
    marks = checker_of(folder).marks(torch.from_numpy(np.stack(pictures)))
    assert marks == expected
    assert set(marks) == {True, False}, "the test must see both marks"


def test_marking_does_not_change_the_pictures(checked):
    """The checker of diffusers blackens its input."""
    pictures = torch.full((4, 32, 32, 3), 200, dtype=torch.uint8)
    assert checker_of(checked(ALL)).marks(pictures) == [True] * 4
    assert (pictures == 200).all()


def test_a_checker_changes_only_the_revision_in_card_and_fingerprint(strict, server):
    """It changes no pixel. The revision is a hash of the folder, which contains the checker."""
    checked, plain = strict.ready.answer, server.ready.answer
    assert checked.card.revision != plain.card.revision
    assert checked.card.model_copy(update={"revision": plain.card.revision}) == plain.card
    assert checked.made_of | {"weights": plain.card.revision} == plain.made_of


def test_a_checker_always_computes_in_float32(checked, settings_for):
    """Half precision would change marks near the threshold."""
    ready = load_model(settings_for(str(checked(ALL)), dtype="bfloat16"))
    network = ready.engine.sampler.weights.safety_checker.network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_a_checker_saved_by_an_older_version_is_loaded(checked):
    """As in most models on the hub: sizes are single numbers, and a class and a prefix have their old names."""
    pictures = torch.from_numpy(np.stack([Image.new("RGB", (32, 40), colour) for colour in COLOURS]))
    folder = checked(0.8, Image.new("RGB", (32, 40), "white"))
    before = checker_of(folder).marks(pictures)
    file = folder / "safety_checker" / "model.safetensors"
    weights = {key.replace("vision_model.vision_model.", "vision_model."): it for key, it in load_file(file).items()}
    older = {key.replace("vision_model.", "vision_model.vision_model."): it for key, it in weights.items()}
    older["vision_model.vision_model.embeddings.position_ids"] = torch.arange(10)[None]
    save_file(older, file, {"format": "pt"})
    file = folder / "feature_extractor" / "preprocessor_config.json"
    kept = {key: it for key, it in json.loads(file.read_text()).items() if key != "image_processor_type"}
    file.write_text(json.dumps({**kept, "size": 24, "crop_size": 24, "feature_extractor_type": "CLIPFeatureExtractor"}))
    in_index(folder, feature_extractor=["transformers", "CLIPFeatureExtractor"])
    assert checker_of(folder).marks(pictures) == before
    assert set(before) == {True, False}, "the test must see both marks"


@pytest.mark.parametrize("lost", ["safety_checker", "feature_extractor", "safetensors", "a layer"])
def test_an_incomplete_checker_is_refused(checked, settings_for, lost):
    """A missing checker would go unnoticed; running without one must be a decision."""
    folder = checked(ALL)
    file = folder / "safety_checker" / "model.safetensors"
    if lost == "safetensors":
        torch.save(load_file(file), file.with_name("pytorch_model.bin"))
        file.unlink()
    elif lost == "a layer":
        save_file({key: it for key, it in load_file(file).items() if "layers.3" not in key}, file, {"format": "pt"})
    else:
        shutil.rmtree(folder / lost)
    with pytest.raises(UnsuitableModel, match=r"plain names a safety checker.*model_index\.json") as raised:
        load(settings_for(str(folder)))
    assert str(folder) not in str(raised.value)
    in_index(folder, safety_checker=[None, None])
    assert load(settings_for(str(folder))).safety_checker is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"safety_checker": ["safe", "OtherChecker"]}, "StableDiffusionSafetyChecker of stable_diffusion"),
        ({"feature_extractor": [None, None]}, "CLIPImageProcessor"),
    ],
)
def test_a_checker_of_another_kind_is_refused_by_name(checked, settings_for, changes, expected):
    """Before it is loaded: it might mark other pictures, or none."""
    folder = checked(ALL)
    in_index(folder, **changes)
    with pytest.raises(UnsuitableModel, match=expected):
        load(settings_for(str(folder)))


def checker_of(folder: Path) -> SafetyChecker:
    checker = load(Settings(model_id=str(folder), device="cpu", threads=1)).safety_checker
    assert checker
    return checker


def in_index(folder: Path, **changes: object) -> None:
    file = folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
