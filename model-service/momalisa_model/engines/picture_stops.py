"""The latents of the stops of a leg with a picture: an encoded picture, or what a prompt's own run ends with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from momalisa_model.cancellation import ShouldStop
from momalisa_model.engines.dip import Ends
from momalisa_model.engines.latents import encode_picture
from momalisa_model.engines.pipeline_call import finished_latents
from momalisa_model.pictures import Pictures
from momalisa_model.prompts import PromptEncoder
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.weights import Weights

KEPT_STOPS = 32


class PictureStops:
    """Computes the latents of stops, and keeps the last ones on the device: a megabyte each, or less."""

    def __init__(self, weights: Weights, encoder: PromptEncoder, micro_batch: int, deep_cache: int) -> None:
        """micro_batch, deep_cache: as for frames, so that a prompt's stop has the bits of its own frame."""
        self._weights, self._encoder = weights, encoder
        self._micro_batch, self._deep_cache = micro_batch, deep_cache
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()

    def ends(self, recipe: BetweenRecipe, files: Pictures, should_stop: ShouldStop) -> Ends | None:
        """The ends of a recipe with pictures, which files has; None for one without.

        Only for the thread that has the device. Raises Cancelled if should_stop() is true.
        """
        if recipe.strength is None:
            return None
        start = self._latents(recipe, recipe.start, recipe.start_picture, files, should_stop)
        end = self._latents(recipe, recipe.end, recipe.end_picture, files, should_stop)
        return Ends(start, end, recipe.strength)

    def encoded(self, key: str, picture: NDArray[np.uint8]) -> Tensor:
        """The latents of a picture with this key: see encode_picture."""
        return self._keep(key, lambda: encode_picture(self._weights, picture))

    def _latents(
        self, recipe: BetweenRecipe, prompt: str, picture: str | None, files: Pictures, should_stop: ShouldStop
    ) -> Tensor:
        if picture:
            return self.encoded(picture, files[picture])
        changes: dict[str, Any] = {"start": prompt, "end": prompt, "blend": "embeddings"}
        changes |= {"start_picture": None, "end_picture": None, "strength": None}
        alone = recipe.model_copy(update=changes)
        run = (self._micro_batch, should_stop, self._deep_cache)
        return self._keep(alone, lambda: finished_latents(self._weights, alone, self._encoder.leg(alone), *run))

    def _keep(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > KEPT_STOPS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]
