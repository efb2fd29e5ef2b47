"""The engine that takes a picture apart: finds its instances, and reveals one after the other (kind `apart`).

Memory depends on the size of the frame, which the card's max_size bounds, and hardly on the number of instances.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import cv2
import numpy as np
import PIL
import torch
import transformers
from numpy.typing import NDArray
from transformers import Mask2FormerForUniversalSegmentation, RfDetrForInstanceSegmentation

from momalisa_model.batch_invariance import largest_power_of_two
from momalisa_model.cancellation import Cancelled, ShouldStop
from momalisa_model.engine_card import read_engine_card
from momalisa_model.engines.engine import Extra, Frame, LoadedEngine, packed
from momalisa_model.engines.instances_cutouts import cutout
from momalisa_model.engines.instances_detect import Detector, Input, input_multiple
from momalisa_model.engines.instances_masks import instances_of
from momalisa_model.engines.instances_reveal import Reveal
from momalisa_model.engines.instances_rle import instances_json
from momalisa_model.engines.kept import Kept
from momalisa_model.fingerprints import made_of_any
from momalisa_model.hub import Report
from momalisa_model.network_files import PROCESSOR_FILE, NetworkFiles, find_network
from momalisa_model.networks import load_network
from momalisa_model.packing import Finish
from momalisa_model.pictures import Pictures
from momalisa_model.problems import UnsuitableModel
from momalisa_model.recipes import ApartRecipe
from momalisa_model.settings import ModelSource
from momalisa_model.weights import choose_device
from momalisa_model.wire import ModelCard, RenderRequest, Truncated

# By the model_type in config.json.
INSTANCE_NETWORKS: Final = {
    "rf_detr": RfDetrForInstanceSegmentation,
    "mask2former": Mask2FormerForUniversalSegmentation,
}
# A walk is usually one shard: finding the instances takes longer than drawing all frames.
SIZES_APART: Final = {"micro_batch": 16, "width": 1024, "height": 1024, "min_size": 64, "max_size": 2048}
KEPT_WALKS: Final = 2
# Counts in the fingerprint: increase it when frames change.
DRAWING: Final = 1


def load_instances(source: ModelSource, report: Report) -> LoadedEngine:
    """Load an RF-DETR-Seg or a Mask2Former from a folder or the hub: see load_engine."""
    torch.set_num_threads(source.threads or largest_power_of_two(torch.get_num_threads()))
    cv2.setNumThreads(torch.get_num_threads())
    files = find_network(source.model_id, source.model_revision, report)
    device = choose_device(source.device)
    detector = load_detector(files, device)
    card = read_engine_card(source, files.model, files.revision, files.folder, **SIZES_APART)
    parts = made_of_any(card.revision, device, card.micro_batch, torch, transformers, cv2, PIL)
    return LoadedEngine(InstancesEngine(detector), card, parts | {"drawing": DRAWING})


def load_detector(files: NetworkFiles, device: torch.device) -> Detector:
    """The network of a folder on its device, in float32. Raises UnsuitableModel if it finds no instances."""
    kind = INSTANCE_NETWORKS.get(str(_fields_of(files.folder / "config.json").get("model_type")))
    if kind is None:
        raise UnsuitableModel(
            f"The config.json of {files.model} is not that of a network that finds instances. Use an RF-DETR-Seg or a "
            "Mask2Former in transformers' format."
        )
    network = load_network(kind, files.folder, files.model, torch.float32, None).to(device).eval()
    return Detector(network, Input.of(_fields_of(files.folder / PROCESSOR_FILE), input_multiple(network)))


def _fields_of(file: Path) -> dict[str, Any]:
    """The fields of a configuration; none if there is no such file. Raises UnsuitableModel if it is damaged."""
    try:
        fields = json.loads(file.read_bytes()) if file.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise UnsuitableModel(f"The {file.name} of the model cannot be read. Replace the file.") from error
    if not isinstance(fields, dict):
        raise UnsuitableModel(f"The {file.name} of the model is not a JSON object. Replace the file.")
    return fields


@dataclass(frozen=True)
class Apart:
    """What the engine keeps of a recipe."""

    reveal: Reveal
    warnings: tuple[Truncated, ...]


class InstancesEngine:
    """Renders recipes of the kind `apart`."""

    features = ("apart",)
    batch_invariant = True  # the network and the pen see one picture at a time
    prepares_beside = False

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._threads = torch.get_num_threads()
        self._kept: Kept[Apart] = Kept(KEPT_WALKS)

    def prepare(self, request: RenderRequest, pictures: Pictures, should_stop: ShouldStop) -> Apart:
        """Find the instances of the recipe's picture."""
        recipe = request.recipe
        assert isinstance(recipe, ApartRecipe)
        if should_stop():
            raise Cancelled
        return self._kept.get(recipe, lambda: self._apart(recipe, pictures[recipe.picture]))

    def _apart(self, recipe: ApartRecipe, picture: NDArray[np.uint8]) -> Apart:
        # In a new thread, torch uses all cores, whatever was set in the main thread.
        torch.set_num_threads(self._threads)
        candidates = self._detector.candidates(picture)
        found = instances_of(candidates, picture, recipe.threshold, recipe.most)
        warnings = () if found else (nothing_found(candidates, recipe.threshold),)
        return Apart(Reveal.of(picture, found), warnings)

    def extras(self, prepared: Apart) -> Iterator[Extra]:
        """All instances as JSON, and each cut out of the picture."""
        reveal = prepared.reveal
        height, width = reveal.picture.shape[:2]
        yield Extra("instances.json", "application/json", instances_json(width, height, reveal.instances))
        for number, instance in enumerate(reveal.instances, 1):
            yield Extra(f"instance-{number:02}.png", "image/png", cutout(reveal.picture, instance))

    def batches(
        self, request: RenderRequest, prepared: Apart, _: Pictures, should_stop: ShouldStop
    ) -> Iterator[Finish[Frame]]:
        """The frames one by one, which bounds memory."""
        for fraction in request.fractions:
            if should_stop():
                raise Cancelled
            began = perf_counter()
            picture = prepared.reveal.frame(fraction)
            yield packed([fraction], picture[None], perf_counter() - began)

    def warm_up(self, card: ModelCard, strict: bool) -> None:  # noqa: ARG002 - one picture at a time has no place
        """Find the instances of a grey picture."""
        self.self_test(card)

    def self_test(self, card: ModelCard) -> None:
        """As `warm_up`."""
        torch.set_num_threads(self._threads)
        self._detector.candidates(np.full((card.height, card.width, 3), 128, np.uint8))


def nothing_found(candidates: list[Any], threshold: float) -> Truncated:
    """What people are told if no instance is good enough."""
    best = max((one.score for one in candidates), default=0.0)
    detail = f"No object was found in the picture with a score of at least {threshold:.2f}; all frames are the picture."
    lower = f" The best score was {best:.2f}: request a lower threshold." if best >= 0.05 else ""
    return Truncated(prompt="picture", truncated="", detail=detail + lower)
