"""Restyles pictures and clips with the networks of arbitrary style transfer: in a named style, or in any picture's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from momalisa_model.batch_invariance import largest_power_of_two
from momalisa_model.cancellation import ShouldStop, never
from momalisa_model.engine_card import read_engine_card
from momalisa_model.engines.engine import Extra, Frame, LoadedEngine, packed
from momalisa_model.engines.kept import Kept
from momalisa_model.engines.style_network import StyleNetwork, weight_names
from momalisa_model.engines.style_pictures import StylePredictor, read_style_pictures, styles_of
from momalisa_model.engines.style_walk import StyleWalk
from momalisa_model.engines.style_weights import (
    PACKAGE,
    PAINTER,
    PREDICTOR,
    network_file,
    read_weights,
    revision_of,
)
from momalisa_model.fingerprints import made_of_any
from momalisa_model.hub import Report
from momalisa_model.packing import Finish
from momalisa_model.pictures import Pictures
from momalisa_model.problems import UnsuitableModel
from momalisa_model.recipes import ClipRecipe, RestyleRecipe
from momalisa_model.settings import ModelSource
from momalisa_model.weights import choose_device
from momalisa_model.wire import ModelCard, RenderRequest, Truncated

# Counts in fingerprints: change it when the same networks paint something else.
STYLE_ALGORITHM = 1
KEPT_STYLED = 8
# The pictures that come with the service; a recipe can name another folder.
OWN_STYLES = Path(__file__).resolve().parents[2] / "atelier" / "styles"
STYLE_SIZES = {"micro_batch": 4, "width": 768, "height": 768, "min_size": 32, "max_size": 2048}
WARM_UP_PX = 64


def load_style(source: ModelSource, _: Report) -> LoadedEngine:
    """The engine with the styles in a folder of pictures. Raises UnsuitableModel if the folder or the card is wrong."""
    pictures = read_style_pictures(OWN_STYLES if source.model_id == PACKAGE else Path(source.model_id))
    files = {name: network_file(name) for name in (PREDICTOR, PAINTER)}
    revision = revision_of(*files.values(), *(file for file, _ in pictures.values()))
    if source.model_revision not in (None, revision):
        raise UnsuitableModel(
            f"The styles have the SHA-256 {revision}, not {source.model_revision}. Change one of them."
        )
    card = read_engine_card(source, "styles", revision, None, styles=styles_of(list(pictures)), **STYLE_SIZES)
    if unknown := [style.name for style in card.styles if style.name not in pictures]:
        raise UnsuitableModel(f"The model card has styles without a picture: {', '.join(unknown)}.")
    device = choose_device(source.device)
    torch.set_num_threads(source.threads or largest_power_of_two(torch.get_num_threads()))
    predictor = StylePredictor(files[PREDICTOR], torch.get_num_threads())
    network = StyleNetwork(read_weights(files[PAINTER], list(weight_names())), device)
    styles = {name: predictor.vector(picture) for name, (_, picture) in pictures.items()}
    parts = made_of_any(revision, device, card.micro_batch, torch, onnxruntime) | {"algorithm": STYLE_ALGORITHM}
    return LoadedEngine(StyleEngine(network, predictor, styles), card, parts)


@dataclass(frozen=True)
class Styled:
    """What the frames of a recipe share: the style, and for one picture the way to it."""

    style: NDArray[np.float32]
    walk: StyleWalk | None
    warnings: tuple[Truncated, ...] = ()


class StyleEngine:
    """Paints one frame at a time, so that a frame does not depend on its neighbours in the shard.

    `prepare` measures a walk on the device, so it does not run beside it.
    """

    features = ("restyle", "clip")
    batch_invariant = True
    prepares_beside = False

    def __init__(
        self, network: StyleNetwork, predictor: StylePredictor, styles: Mapping[str, NDArray[np.float32]]
    ) -> None:
        """styles: the vectors of the styles that recipes can name."""
        self._network, self._predictor, self._styles = network, predictor, styles
        self._threads = torch.get_num_threads()
        self._kept: Kept[Styled] = Kept(KEPT_STYLED)

    def prepare(self, request: RenderRequest, pictures: Pictures, should_stop: ShouldStop) -> Styled:
        """The style vector, and for a picture the way to it. Raises Cancelled."""
        torch.set_num_threads(self._threads)
        return self._kept.get(request.recipe, lambda: self._styled(request, pictures, should_stop))

    def _styled(self, request: RenderRequest, pictures: Pictures, should_stop: ShouldStop) -> Styled:
        recipe = request.recipe
        assert isinstance(recipe, RestyleRecipe | ClipRecipe)
        style = self._vector(recipe, pictures)
        if isinstance(recipe, ClipRecipe):
            return Styled(style, None)
        picture = pictures[recipe.picture]
        return Styled(style, StyleWalk(self._network, self._predictor.vector(picture), style, picture, should_stop))

    def _vector(self, recipe: RestyleRecipe | ClipRecipe, pictures: Pictures) -> NDArray[np.float32]:
        if recipe.style_picture:
            return self._predictor.vector(pictures[recipe.style_picture])
        return self._styles[recipe.style or ""]

    def extras(self, _: Styled) -> Iterator[Extra]:
        """None: there is nothing beside the frames."""
        return iter(())

    def batches(
        self, request: RenderRequest, prepared: Styled, pictures: Pictures, should_stop: ShouldStop
    ) -> Iterator[Finish[Frame]]:
        """One frame after another. Raises Cancelled between two layers of the network."""
        torch.set_num_threads(self._threads)
        for number, fraction in enumerate(request.fractions):
            began = perf_counter()
            if prepared.walk:
                frame = prepared.walk.at(fraction, should_stop)
            else:
                source = pictures[(request.sources or ())[number]]
                frame = self._network.paint(source, prepared.style, should_stop)
            picture = rounded_picture(frame)
            yield packed([fraction], picture[None], perf_counter() - began)

    def warm_up(self, card: ModelCard, strict: bool) -> None:  # noqa: ARG002 - each frame is a batch of its own
        """Paint a small picture: memory is the same for all styles, and nothing is compiled."""
        self.self_test(card)

    def self_test(self, card: ModelCard) -> None:
        """Paint a small grey picture in the first style."""
        grey = np.full((WARM_UP_PX, WARM_UP_PX, 3), 128, np.uint8)
        rounded_picture(self._network.paint(grey, self._styles[card.styles[0].name], never))


def rounded_picture(picture: Tensor) -> NDArray[np.uint8]:
    """(height, width, 3) float32 in [0, 1] as uint8, in memory."""
    pixels: NDArray[np.uint8] = picture.mul(255).round_().to(torch.uint8).cpu().numpy()
    return pixels
