"""Paints what the layers of a picture hide with a diffusion model. Loads none, and does not decide where to paint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from momalisa_model.additions import revision_with_fill
from momalisa_model.cancellation import ShouldStop
from momalisa_model.engines.parallax_edges import Mask
from momalisa_model.engines.passes import stoppable
from momalisa_model.problems import NotANumber
from momalisa_model.wire import ModelCard

# How much of the schedule paints. The rest of it would forget the colours of what is beside the rim.
STRENGTH: Final = 0.8


@dataclass(frozen=True)
class Painter:
    """A pipeline for inpainting.

    network: its denoiser. settings: arguments of each call. side: the longer side of what it paints, in pixels.
    multiple: of both sides, in pixels. made_of: what decides the bits of its paint.
    """

    pipeline: Any
    network: torch.nn.Module
    settings: Mapping[str, Any]
    side: int
    multiple: int
    model: str
    revision: str
    made_of: Mapping[str, str | int]

    def revision_with(self, base: str) -> str:
        """The revision of the model for depth, whose own is `base`, together with this one."""
        return revision_with_fill(base, self.revision)

    def told_in(self, card: ModelCard) -> ModelCard:
        """A card that tells people what paints. One that was printed before tells it already."""
        told = f"What the camera uncovers is painted by {self.model}."
        summary = card.about.summary if told in card.about.summary else f"{card.about.summary} {told}".strip()
        return card.model_copy(update={"about": card.about.model_copy(update={"summary": summary})})

    def paint(self, colours: NDArray[np.uint8], where: Mask, seed: int, should_stop: ShouldStop) -> NDArray[np.uint8]:
        """What the model paints where a mask (h, w) is true, without a prompt; elsewhere about the colours (h, w, 3).

        Raises NotANumber, and Cancelled soon after should_stop() becomes true.
        """
        height, width = where.shape
        scale = self.side / max(height, width)
        size = [max(round(length * scale / self.multiple), 1) * self.multiple for length in (width, height)]
        shown = cv2.resize(colours, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        # Each pixel that has something of the mask.
        mask = cv2.resize(where.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        with stoppable(self.network, should_stop):
            painted = self.pipeline(
                prompt="",
                image=Image.fromarray(np.asarray(shown, np.uint8)),
                mask_image=Image.fromarray(mask.astype(np.uint8) * 255),
                width=size[0],
                height=size[1],
                strength=STRENGTH,
                generator=torch.Generator("cpu").manual_seed(seed),
                output_type="np",
                **self.settings,
            ).images[0]
        if not np.isfinite(painted).all():
            raise NotANumber(f"{self.model} in fill_model returned invalid numbers. Use another model or dtype.")
        pixels = (painted * 255).round().astype(np.uint8)
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
