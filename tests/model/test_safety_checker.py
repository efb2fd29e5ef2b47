"""A model's own safety checker over HTTP: what it objects to is marked, and painted like everything else."""

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
# Far apart even for a network as small as this one.
COLOURS = ("black", "white", "red", "blue", "gold")


def frames_of(answer: httpx.Response) -> list[dict]:
    """The lines after the first."""
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
    """The frames of the plain model, which has no checker."""
    return frames_of(server.render(FRACTIONS))


@pytest.fixture(scope="module")
def strict(checked: Callable[..., Path], settings_for: Callable[..., Settings]) -> Iterator[Server]:
    """A replica whose model objects to everything."""
    with Server(settings_for(str(checked(ALL)))) as running:
        yield running


def test_what_the_checker_objects_to_is_marked_and_not_blackened(strict, unchecked):
    """The frame is kept by its recipe for ever: its bytes are what they would be without a checker."""
    frames = frames_of(strict.render(FRACTIONS))
    assert [frame["marked"] for frame in frames] == [True] * 5
    assert [frame["png"] for frame in frames] == [frame["png"] for frame in unchecked]
    assert strict.metric("marked_total") == 5


def test_a_checker_that_objects_to_nothing_marks_nothing(checked, settings_for, unchecked):
    """A mark takes a walk off the wall: it must not come with the checker, but from it."""
    with Server(settings_for(str(checked(NONE)))) as lenient:
        frames = frames_of(lenient.render(FRACTIONS))
        assert lenient.metric("marked_total") == 0
    assert [frame["marked"] for frame in frames] == [False] * 5
    assert [frame["png"] for frame in frames] == [frame["png"] for frame in unchecked]


def test_without_a_checker_nothing_is_marked(unchecked):
    """The embedded model has none."""
    assert [frame["marked"] for frame in unchecked] == [False] * 5


def test_a_mark_is_its_frames_own_whatever_the_shard(checked, settings_for, unchecked):
    """Alone, between others, in a second micro-batch: the picture that the checker knows is marked, no other."""
    with Server(settings_for(str(checked(0.98, picture_of(unchecked[1]))))) as server:
        for fractions in ([0.25], [0.0, 0.25, 1.0], [1.0, 0.75, 0.5, 0.0, 0.25], [0.0, 0.5]):
            marked = [frame["fraction"] for frame in frames_of(server.render(fractions)) if frame["marked"]]
            assert marked == [0.25] * (0.25 in fractions)


def test_the_checker_sees_whole_micro_batches_only(strict):
    """Its last bits change with the batch's size, as the painter's do: a verdict near the line would with them."""
    seen = []
    network = strict.ready.sampler.weights.safety_checker.network
    hook = network.vision_model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    try:
        strict.render([0.5])
        strict.render(FRACTIONS)
    finally:
        hook.remove()
    assert seen == [4, 4, 4]


def test_the_verdicts_are_the_stock_pipelines(checked):
    """Ours is diffusers' checker and no look-alike."""
    pictures = [Image.new("RGB", (40, 32), colour) for colour in COLOURS]
    folder = checked(0.8, pictures[0])
    stock = StableDiffusionPipeline.from_pretrained(folder)
    _, theirs = stock.run_safety_checker(np.stack(pictures) / 255, "cpu", torch.float32)
    ours = checker_of(folder).marks(torch.from_numpy(np.stack(pictures)))
    assert ours == theirs
    assert set(ours) == {True, False}, "nothing was shown"


def test_pictures_are_left_as_they_are(checked):
    """diffusers' checker blackens what it is given."""
    pictures = torch.full((4, 32, 32, 3), 200, dtype=torch.uint8)
    assert checker_of(checked(ALL)).marks(pictures) == [True] * 4
    assert (pictures == 200).all()


def test_a_checker_changes_neither_card_nor_fingerprint_but_by_the_revision(strict, server):
    """It decides no pixel. The revision is a hash of the folder, and the checker lies in there."""
    ours, plain = strict.ready.answer, server.ready.answer
    assert ours.card.revision != plain.card.revision
    assert ours.card.model_copy(update={"revision": plain.card.revision}) == plain.card
    assert ours.made_of | {"weights": plain.card.revision} == plain.made_of


def test_a_checker_computes_in_float32_whatever_the_weights_do(checked, settings_for):
    """Half precision would move pictures over the line."""
    ready = load_model(settings_for(str(checked(ALL)), dtype="bfloat16"))
    network = ready.sampler.weights.safety_checker.network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_a_checker_as_older_versions_saved_it_is_read(checked):
    """Most models on the hub: sizes as single numbers, a class that has another name by now, one more prefix."""
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
    assert set(before) == {True, False}, "nothing was shown"


@pytest.mark.parametrize("lost", ["safety_checker", "feature_extractor", "safetensors", "a layer"])
def test_a_checker_that_is_not_there_whole_is_a_sentence(checked, settings_for, lost):
    """To go without would be noticed by nobody; what the sentence says to do is a decision."""
    folder = checked(ALL)
    file = folder / "safety_checker" / "model.safetensors"
    if lost == "safetensors":
        torch.save(load_file(file), file.with_name("pytorch_model.bin"))
        file.unlink()
    elif lost == "a layer":
        save_file({key: it for key, it in load_file(file).items() if "layers.3" not in key}, file, {"format": "pt"})
    else:
        shutil.rmtree(folder / lost)
    with pytest.raises(UnsuitableModel, match=r"plain names a safety checker.*model_index\.json") as told:
        load(settings_for(str(folder)))
    assert str(folder) not in str(told.value)
    in_index(folder, safety_checker=[None, None])
    assert load(settings_for(str(folder))).safety_checker is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"safety_checker": ["safe", "OtherChecker"]}, "StableDiffusionSafetyChecker of stable_diffusion"),
        ({"feature_extractor": [None, None]}, "CLIPImageProcessor"),
    ],
)
def test_a_checker_of_another_kind_is_refused_by_name(checked, settings_for, changes, said):
    """Before it is read: it might mark other things, or nothing."""
    folder = checked(ALL)
    in_index(folder, **changes)
    with pytest.raises(UnsuitableModel, match=said):
        load(settings_for(str(folder)))


def checker_of(folder: Path) -> SafetyChecker:
    checker = load(Settings(model_id=str(folder), device="cpu", threads=1)).safety_checker
    assert checker
    return checker


def in_index(folder: Path, **changes: object) -> None:
    file = folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
