"""The engine that takes pictures apart: its networks, its files, and its walks from a replica."""

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
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import Mask2FormerImageProcessorPil

from momalisa_model.cancellation import Cancelled, never
from momalisa_model.engines.instances import InstancesEngine, load_detector
from momalisa_model.engines.instances_detect import Detector, Input
from momalisa_model.engines.instances_masks import Candidate, mask_of
from momalisa_model.network_files import find_network
from momalisa_model.problems import NotANumber, UnsuitableModel
from momalisa_model.recipes import ApartRecipe
from momalisa_model.settings import Settings
from momalisa_model.wire import RenderRequest
from tests.support.instance_networks import LABELS, save_instance_network
from tests.support.model_server import Server
from tests.support.recipes import write_recipe

WIDTH, HEIGHT = 120, 80
PICTURE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
KINDS = ("rf_detr", "mask2former")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("networks")
    return {kind: save_instance_network(kind, folder / kind) for kind in KINDS}


def loaded(folder: Path) -> Detector:
    return load_detector(find_network(str(folder), None, lambda _: None), torch.device("cpu"))


class KnownObjects:
    """A detector that finds two rectangles in every picture."""

    def __init__(self, *scores: float) -> None:
        self.scores, self.calls = scores, 0

    def candidates(self, _: NDArray[np.uint8]) -> list[Candidate]:
        self.calls += 1
        return [Candidate(LABELS[number], score, self._rectangle(number)) for number, score in enumerate(self.scores)]

    @staticmethod
    def _rectangle(number: int) -> NDArray[np.float32]:
        logits = np.full((HEIGHT, WIDTH), -5, np.float32)
        logits[20:60, 10 + 50 * number : 50 + 50 * number] = 5
        return logits


def request_for(picture: str = "0" * 64, **changes: Any) -> RenderRequest:
    fields = {"kind": "apart", "picture": picture, "threshold": 0.5, "most": 20, "width": WIDTH, "height": HEIGHT}
    recipe = ApartRecipe(**fields | {"model": "m", "revision": "r"} | changes)
    return RenderRequest(recipe=recipe, fractions=[0.0, 0.5, 1.0])


PICTURES = {"0" * 64: PICTURE}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(80, 120, 3), (300, 40, 3)])
def test_both_families_answer_for_pictures_of_any_shape(networks: dict[str, Path], kind: str, shape: tuple[int, ...]):
    """The size of the network's input is its own: the frame's decides nothing but how masks are pasted."""
    found = loaded(networks[kind]).candidates(np.full(shape, 90, np.uint8))
    assert len(found) == 6
    assert {one.label for one in found} <= set(LABELS.values())
    assert all(0 <= one.score <= 1 and one.logits.shape == (16, 24) for one in found)


def test_a_picture_becomes_the_input_that_transformers_makes():
    """Weights from the hub were trained with transformers' processors, which need torchvision or pad."""
    config = {"size": {"height": HEIGHT, "width": WIDTH}, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
    theirs = Mask2FormerImageProcessorPil(**config, size_divisor=0)(PICTURE, return_tensors="pt")["pixel_values"]
    assert torch.allclose(Input.of(config, 8).tensor(PICTURE), theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "sides"),
    [
        ({"height": 64, "width": 96}, (96, 64)),
        (64, (64, 64)),
        ({"shortest_edge": 400, "longest_edge": 1333}, (592, 400)),
        ({"shortest_edge": 800, "longest_edge": 600}, (592, 400)),
        ({"longest_edge": 300}, (288, 192)),
        (None, (1200, 800)),
    ],
)
def test_the_input_has_the_size_of_the_configuration_in_whole_patches(size: Any, sides: tuple[int, int]):
    assert Input.of({"size": size}, 16).sides(WIDTH, HEIGHT) == sides


@pytest.mark.parametrize("size", [{"height": 64}, {"height": 0, "width": 9}, {"longest_edge": 100_000}, [64, 64], "64"])
def test_an_unusable_configuration_of_the_input_is_refused(size: Any):
    """A configuration may come from anybody, and must not decide how much memory there is."""
    with pytest.raises(UnsuitableModel, match=r"preprocessor_config\.json"):
        Input.of({"size": size}, 16)


@pytest.mark.parametrize("config", ['{"model_type": "bert"}', "{}", "[]", "{"])
def test_a_network_that_finds_no_instances_is_refused(tmp_path: Path, config: str):
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UnsuitableModel, match=r"config\.json"):
        loaded(tmp_path)


def test_weights_that_overflow_are_an_error_and_not_an_empty_picture(networks: dict[str, Path]):
    detector = loaded(networks["rf_detr"])
    torch.nn.init.constant_(detector.network.model.class_embed.bias, float("nan"))
    with pytest.raises(NotANumber):
        detector.candidates(PICTURE)


def test_a_picture_is_searched_once_for_all_shards_of_a_recipe():
    """Finding instances takes longer than drawing them."""
    detector = KnownObjects(0.9, 0.8)
    engine = InstancesEngine(detector)
    first = engine.prepare(request_for(), PICTURES, never)
    assert engine.prepare(request_for(), PICTURES, never) is first
    engine.prepare(request_for(threshold=0.6), PICTURES, never)
    assert detector.calls == 2


def test_cutouts_have_the_pixels_of_their_instance_and_nothing_else():
    """What is transparent would still be in the file: somebody may have cut out a face to hide the rest."""
    engine = InstancesEngine(KnownObjects(0.9, 0.8))
    prepared = engine.prepare(request_for(), PICTURES, never)
    document, *files = engine.extras(prepared)
    assert document.name == "instances.json"
    assert [one["label"] for one in json.loads(document.data)["instances"]] == ["cat", "dog"]
    assert [file.name for file in files] == ["instance-01.png", "instance-02.png"]
    for file, instance in zip(files, prepared.reveal.instances, strict=True):
        layers = np.asarray(Image.open(io.BytesIO(file.data)))
        assert layers.shape == (HEIGHT, WIDTH, 4)
        assert np.abs(layers[..., 3] / 255 - mask_of(instance)).max() < 0.5
        seen = layers[..., 3] > 0
        assert np.array_equal(layers[seen][:, :3], PICTURE[seen])
        assert not layers[~seen].any()


def test_a_picture_without_instances_is_a_walk_with_a_warning():
    engine = InstancesEngine(KnownObjects(0.4))
    prepared = engine.prepare(request_for(), PICTURES, never)
    assert [warning.detail for warning in prepared.warnings] == [
        "No object was found in the picture with a score of at least 0.50; all frames are the picture. The best score "
        "was 0.40: request a lower threshold."
    ]
    frames = [frame for finish in engine.batches(request_for(), prepared, PICTURES, never) for frame in finish()]
    assert len({frame.png for frame in frames}) == 1
    assert [extra.name for extra in engine.extras(prepared)] == ["instances.json"]


def test_a_walk_stops_between_frames_if_nobody_waits_for_it():
    engine = InstancesEngine(KnownObjects(0.9))
    batches = engine.batches(request_for(), engine.prepare(request_for(), PICTURES, never), PICTURES, lambda: True)
    with pytest.raises(Cancelled):
        next(batches)


@pytest.fixture(scope="module")
def served(networks: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A replica with a random RF-DETR, whose scores are about 0.01."""
    folder = tmp_path_factory.mktemp("recipes")
    recipe = write_recipe(folder, "finder", networks["rf_detr"], engine="instances")
    with Server(Settings(recipes=str(recipe), device="cpu", threads=1, port=0)) as running:
        yield running


def lines_of(server: Server, fractions: list[float], **changes: Any) -> list[dict[str, Any]]:
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "PNG")
    key = hashlib.sha256(file.getvalue()).hexdigest()
    card = server.app.state.replica.ready()[0].card
    recipe = request_for(key, threshold=0.05, model=card.model, revision=card.revision, **changes).recipe.model_dump()
    body = {"recipe": recipe, "fractions": fractions, "extras": True}
    body["pictures"] = {key: base64.b64encode(file.getvalue()).decode()}
    answer = httpx.post(server.url + "/v1/render", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_replica_serves_the_warning_the_json_and_the_frames(served: Server):
    (model,) = served.get("/v1/models").json()["models"]
    assert (model["card"]["engine"], model["features"]) == ("instances", ["apart"])
    head, extra, *frames = lines_of(served, [0.0, 1.0])
    assert head["warnings"][0]["prompt"] == "picture"
    assert json.loads(base64.b64decode(extra["data"])) == {"width": WIDTH, "height": HEIGHT, "instances": []}
    for frame in frames:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(frame["png"])))), PICTURE)
