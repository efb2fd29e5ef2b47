"""The engine for walks into a picture: a camera moves before the layers that a depth map splits the picture into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from momalisa_model.batch_invariance import largest_power_of_two
from momalisa_model.cancellation import Cancelled, ShouldStop, never
from momalisa_model.engine_card import read_engine_card
from momalisa_model.engines.engine import Extra, Frame, LoadedEngine
from momalisa_model.engines.kept import Kept
from momalisa_model.engines.parallax_depth import DepthNetwork, load_depth_network
from momalisa_model.engines.parallax_motion import view_at
from momalisa_model.engines.parallax_scene import Scene, build_scene, cutout_png, depth_png
from momalisa_model.engines.parallax_warp import seen
from momalisa_model.fingerprints import made_of_any
from momalisa_model.hub import Report
from momalisa_model.network_files import find_network
from momalisa_model.packing import Finish
from momalisa_model.pictures import Pictures
from momalisa_model.png import encode_png
from momalisa_model.recipes import IntoRecipe
from momalisa_model.settings import ModelSource
from momalisa_model.weights import choose_device
from momalisa_model.wire import ModelCard, RenderRequest, Truncated

if TYPE_CHECKING:
    from momalisa_model.engines.parallax_painter import Painter

# Changes when the same recipe with the same network and libraries becomes other pictures.
ALGORITHM: Final = 1
PARALLAX_CARD: Final = {"micro_batch": 8, "width": 1024, "height": 1024, "min_size": 64, "max_size": 2048}
# Scenes of recipes: one of 1024 x 1024 pixels has about 30 MB.
KEPT_SCENES: Final = 3
SEED_DIGITS: Final = 8


def load_parallax(source: ModelSource, report: Report) -> LoadedEngine:
    """Load a network for depth, in transformers' format, from a folder or the hub, and what fills, if anything does."""
    files = find_network(source.model_id, source.model_revision, report)
    device = choose_device(source.device)
    torch.set_num_threads(source.threads or largest_power_of_two(torch.get_num_threads()))
    painter = _painter(source, device, report)
    revision = painter.revision_with(files.revision) if painter else files.revision
    card = read_engine_card(source, files.model, revision, files.folder, files.revision, **PARALLAX_CARD)
    parts = made_of_any(revision, device, card.micro_batch, torch, transformers, cv2, np)
    # OpenCV chooses its code by the processor, also where the network is on a GPU.
    parts |= {"opencv": cv2.getCPUFeaturesLine(), "parallax": ALGORITHM}
    if painter:
        parts |= painter.made_of
        card = painter.told_in(card)
    return LoadedEngine(ParallaxEngine(load_depth_network(files.folder, device), painter), card, parts)


def _painter(source: ModelSource, device: torch.device, report: Report) -> Painter | None:
    if not source.fill_model:
        return None
    # Pipelines of diffusers need seconds and memory, and few replicas have them.
    from momalisa_model.engines.parallax_inpaint import load_painter

    return load_painter(source.fill_model, source, device, report)


@dataclass(frozen=True)
class PreparedScene:
    """What the engine keeps of a recipe."""

    scene: Scene
    warnings: tuple[Truncated, ...] = ()


class ParallaxEngine:
    """Estimates depth on the device; everything else is done by the processor, frames in the packing threads."""

    features = ("into",)
    batch_invariant = True
    prepares_beside = False

    def __init__(self, network: DepthNetwork, painter: Painter | None = None) -> None:
        self._network, self._painter = network, painter
        self._threads = torch.get_num_threads()
        self._kept: Kept[PreparedScene] = Kept(KEPT_SCENES)

    def prepare(self, request: RenderRequest, pictures: Pictures, should_stop: ShouldStop) -> PreparedScene:
        """Estimate the picture's depth, split it into layers, and fill what these hide."""
        recipe = _of_kind(request.recipe)
        # The same picture gets the same noise, however the camera moves.
        seed = int(recipe.picture[:SEED_DIGITS], 16)
        picture = pictures[recipe.picture]
        return self._kept.get(recipe, lambda: self._prepared(picture, recipe.amplitude, seed, should_stop))

    def _prepared(
        self, picture: NDArray[np.uint8], amplitude: float, seed: int, should_stop: ShouldStop
    ) -> PreparedScene:
        # In a new thread, torch uses all cores, whatever was set in the main thread.
        torch.set_num_threads(self._threads)
        depth = self._network.nearness(picture)
        if should_stop():
            raise Cancelled
        paint = partial(self._painter.paint, seed=seed, should_stop=should_stop) if self._painter else None
        return PreparedScene(build_scene(picture, depth, amplitude, paint))

    def extras(self, prepared: PreparedScene) -> Iterator[Extra]:
        """The depth map, and the foreground."""
        yield Extra("depth.png", "image/png", depth_png(prepared.scene))
        yield Extra("cutout.png", "image/png", cutout_png(prepared.scene))

    def batches(
        self, request: RenderRequest, prepared: PreparedScene, _: Pictures, should_stop: ShouldStop
    ) -> Iterator[Finish[Frame]]:
        """Each frame by itself: they need no device."""
        for fraction in request.fractions:
            if should_stop():
                raise Cancelled
            yield partial(_frames, prepared.scene, _of_kind(request.recipe), fraction)

    def warm_up(self, card: ModelCard, strict: bool) -> None:  # noqa: ARG002 - there are no batches
        """Render one frame of a picture of the card's size."""
        picture = np.zeros((card.height, card.width, 3), np.uint8)
        picture[card.height // 2 :] = 255
        scene = self._prepared(picture, 1.0, 0, never).scene
        seen(scene.layers, view_at("sway", 1.0, 0.25))

    def self_test(self, card: ModelCard) -> None:
        """Estimate the depth of one picture."""
        self._network.nearness(np.zeros((card.height, card.width, 3), np.uint8))


def _of_kind(recipe: Any) -> IntoRecipe:
    """The recipe, which has been checked to be one of this kind."""
    assert isinstance(recipe, IntoRecipe)
    return recipe


def _frames(scene: Scene, recipe: IntoRecipe, fraction: float) -> Iterator[Frame]:
    began = perf_counter()
    picture = seen(scene.layers, view_at(recipe.motion, recipe.amplitude, fraction))
    yield Frame(fraction, encode_png(picture), perf_counter() - began, marked=False)
