"""Frames in micro-batches: pads each to one size, takes its pictures off the device, and checks a replica at start.

The batch always has the same size, so that a frame's bytes do not depend on the other frames of the request.
Independent of HTTP and of the device queue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import structlog
import torch
from torch import Tensor

from momalisa_model.cancellation import ShouldStop, never
from momalisa_model.engines.courses import Course, Places, along_clip, between, restyled
from momalisa_model.engines.dip import Begin
from momalisa_model.engines.engine import Frame
from momalisa_model.engines.picture_stops import PictureStops
from momalisa_model.engines.pipeline_call import render
from momalisa_model.packing import Finish
from momalisa_model.pictures import NO_PICTURES, Pictures
from momalisa_model.png import encode_png
from momalisa_model.problems import NotANumber, UnsuitableModel
from momalisa_model.prompts import Leg, PromptEncoder
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.transfer import Transfer, rounded
from momalisa_model.weights import Weights
from momalisa_model.wire import EARLY_BLEND, PICTURES, ModelCard

# The picture of the warm-up: no file has this SHA-256.
GREY = "0" * 64
# What a model renders whose VAE can encode pictures.
FROM_PICTURES = (PICTURES, "restyle", "clip")


class Sampler:
    """Renders frames with one set of weights, always `micro_batch` at a time.

    deep_cache, prompt_chunks: as in the card. features, batch_invariant: those of ModelAnswer, after `warm_up`.
    """

    def __init__(self, weights: Weights, micro_batch: int, deep_cache: int = 1, prompt_chunks: int = 1) -> None:
        self.weights = weights
        self._micro_batch, self._deep_cache = micro_batch, deep_cache
        self._threads = torch.get_num_threads()
        self.features: tuple[str, ...] = (*[EARLY_BLEND] * weights.family.blends, *FROM_PICTURES)
        self.batch_invariant = True
        self._encoder = PromptEncoder(weights, prompt_chunks)
        self._stops = PictureStops(weights, self._encoder, micro_batch, deep_cache)

    def encode(self, recipe: BetweenRecipe) -> Leg:
        """Encode a recipe's prompts, in any thread. Prompts that were encoded lately are not encoded again."""
        self._use_threads()
        return self._encoder.leg(recipe)

    def frames(
        self,
        recipe: BetweenRecipe,
        leg: Leg,
        fractions: Sequence[float],
        should_stop: ShouldStop = never,
        files: Pictures = NO_PICTURES,
    ) -> Iterator[Frame]:
        """Render the frames at these fractions, in this order, one micro-batch at a time.

        Raises what `batches` and its items raise.
        """
        return chain.from_iterable(finish() for finish in self.batches(recipe, leg, fractions, should_stop, files))

    def batches(
        self,
        recipe: BetweenRecipe,
        leg: Leg,
        fractions: Sequence[float],
        should_stop: ShouldStop = never,
        files: Pictures = NO_PICTURES,
    ) -> Iterator[Finish[Frame]]:
        """Render one micro-batch after another. The items do what is left without the device, in any thread.

        files: the pictures that the recipe names. Raises Cancelled between two denoising steps if should_stop() is
        true. The items raise NotANumber if the numbers have overflowed.
        """
        self._use_threads()
        course = between(self._stops.ends(recipe, files, should_stop), fractions)
        yield from self.batches_on(course, recipe, leg, fractions, should_stop)

    def batches_on(
        self,
        course: Course,
        recipe: BetweenRecipe,
        leg: Leg,
        fractions: Sequence[float],
        should_stop: ShouldStop,
    ) -> Iterator[Finish[Frame]]:
        """Render one micro-batch after another on a course: see `batches`."""
        self._use_threads()
        for first in range(0, len(fractions), self._micro_batch):
            places = range(first, min(first + self._micro_batch, len(fractions)))
            batch = [fractions[place] for place in places]
            transfer = Transfer(self.weights.device)
            transfer.start(*self._render(course, recipe, leg, fractions, places, should_stop))
            marks = self._marks(self._received(transfer)[0]) if self.weights.safety_checker else [False] * len(batch)
            yield partial(self._frames, batch, transfer, marks)

    def _frames(self, fractions: Sequence[float], transfer: Transfer, marks: Sequence[bool]) -> Iterator[Frame]:
        pictures, seconds = self._received(transfer)
        for fraction, picture, marked in zip(fractions, pictures, marks, strict=True):
            yield Frame(fraction, encode_png(picture.numpy()), seconds / len(fractions), marked)

    def _received(self, transfer: Transfer) -> tuple[Tensor, float]:
        pictures, seconds = transfer.result()
        if pictures is None:
            raise self._overflow()
        return pictures, seconds

    def _overflow(self) -> NotANumber:
        precision = {torch.float16: "bfloat16 or float32", torch.bfloat16: "float32"}.get(self.weights.dtype)
        remedy = (
            f"set MOMALISA_DTYPE to {precision} on every replica"
            if precision
            else "check the weights of the model and of its adapters, which may be damaged"
        )
        return NotANumber(
            f"Numbers overflowed in {self.weights.dtype}. Request less guidance or another scheduler, or {remedy}."
        )

    def pictures(
        self,
        recipe: BetweenRecipe,
        leg: Leg,
        fractions: Sequence[float],
        should_stop: ShouldStop,
        files: Pictures = NO_PICTURES,
    ) -> Tensor:
        """At most one micro-batch, before rounding: (frames, height, width, 3) float32 in [0, 1], on the device.

        Raises Cancelled and NotANumber, as `frames` does.
        """
        course = between(self._stops.ends(recipe, files, should_stop), fractions)
        return self._on(course, recipe, leg, fractions, should_stop)

    def _on(
        self, course: Course, recipe: BetweenRecipe, leg: Leg, fractions: Sequence[float], should_stop: ShouldStop
    ) -> Tensor:
        pictures, valid = self._render(course, recipe, leg, fractions, range(len(fractions)), should_stop)
        if not valid.item():
            raise self._overflow()
        return pictures

    def _render(
        self,
        course: Course,
        recipe: BetweenRecipe,
        leg: Leg,
        fractions: Sequence[float],
        places: Places,
        should_stop: ShouldStop,
    ) -> tuple[Tensor, Tensor]:
        """The tensor of `pictures`, and whether all its numbers were finite before clamping, on the device."""
        padded = [*places, *[places[-1]] * (self._micro_batch - len(places))]
        along, begin = [fractions[place] for place in padded], course.begin(padded)
        pictures, valid = render(self.weights, recipe, leg, along, should_stop, self._deep_cache, begin)
        return course.finish(pictures, padded)[: len(places)], valid

    def restyled(
        self,
        recipe: BetweenRecipe,
        leg: Leg,
        picture: str,
        strength: float,
        fractions: Sequence[float],
        files: Pictures,
        should_stop: ShouldStop,
    ) -> Course:
        """The course from a picture, by its key in files, to its restyled still.

        recipe, leg: of a walk from the prompt to itself.
        """
        self._use_threads()
        latents = self._stops.encoded(picture, files[picture])
        # No step draws it again, so that only the last one has to be made.
        alone = Course(lambda places: Begin(latents.expand(len(places), *latents.shape), torch.zeros(len(places)), 0.0))
        decoded = self._on(alone, recipe, leg, [0.0], should_stop)[0]
        lost = torch.from_numpy(files[picture]).to(decoded) / 255 - decoded
        return restyled(latents, lost, strength, fractions)

    def along_clip(self, sources: Sequence[str], strength: float, files: Pictures) -> Course:
        """The course along pictures of a clip, by their keys in files."""
        return along_clip(lambda place: self._stops.encoded(sources[place], files[sources[place]]), strength)

    def warm_up(self, card: ModelCard, strict: bool = True) -> None:
        """Render once with the card's defaults, because the first run plans kernels, and check batch invariance.

        strict: raise UnsuitableModel if the bits of a frame change with its place in the batch; otherwise, set
        `batch_invariant`. Without batch invariance of the passes that only the early blend and a guidance interval
        have, strict refuses both. Without that of frames between pictures, strict does not offer these.
        """
        invariant = self._is_batch_invariant(card)
        few = min(3, card.max_steps)
        blended = {"num_inference_steps": few, "guidance_interval": (0.0, 0.3), "blend": "early"}
        if self.weights.family.blends and not self._is_batch_invariant(card, **blended):
            self.features = tuple(name for name in self.features if not strict or name != EARLY_BLEND)
            invariant &= card.guidance_interval is None
        if not self._renders_pictures(card, strict):
            self.features = tuple(name for name in self.features if name not in FROM_PICTURES)
        self.batch_invariant = invariant
        if strict and not invariant:
            raise UnsuitableModel(
                f"On this machine, the bits of a frame depend on its place in a batch of {self._micro_batch}. "
                f"{self._advice()}, or give all services a card with another micro_batch."
            )

    def _advice(self) -> str:
        if self.weights.device.type == "cpu":
            return "Set MOMALISA_THREADS to a smaller power of two"
        return "Set MOMALISA_PLACES to auto, which accepts it on this device"

    def _renders_pictures(self, card: ModelCard, strict: bool) -> bool:
        """Whether stops can be pictures: the VAE can encode one, and if strict, places in the batch do not matter."""
        grey = np.full((card.height, card.width, 3), 128, np.uint8)
        stops = {"start_picture": GREY, "strength": 0.8, "files": {GREY: grey}}
        try:
            return self._is_batch_invariant(card, **stops) or not strict
        except torch.AcceleratorError:  # the device is lost
            raise
        except Exception as error:  # what a VAE lacks, libraries report by errors of any type
            structlog.get_logger().warning("stops cannot be pictures", model=card.model, exc_info=error)
            return False

    def _is_batch_invariant(self, card: ModelCard, **changes: Any) -> bool:
        here, moved = self.render_defaults(card, **changes), self.render_defaults(card, moved_by=1, **changes)
        return torch.equal(here, moved.roll(-1, 0))

    def render_defaults(
        self, card: ModelCard, moved_by: int = 0, files: Pictures = NO_PICTURES, **changes: Any
    ) -> Tensor:
        """One micro-batch with the card's defaults, each frame moved by so many places: see `pictures`.

        changes: of the recipe. One step is enough for the defaults: all their steps run the same kernels.
        """
        names = ("negative_prompt", "width", "height", "guidance_scale", "scheduler", "model", "revision")
        defaults = {"num_inference_steps": 1} | {name: getattr(card, name) for name in names}
        recipe = BetweenRecipe(start="a", end="b", seed=0, **(defaults | changes))
        spread = [(place - moved_by) % self._micro_batch / self._micro_batch for place in range(self._micro_batch)]
        pictures = self.pictures(recipe, self.encode(recipe), spread, never, files)
        self._marks(rounded(pictures).cpu())
        return pictures

    def _marks(self, pictures: Tensor) -> list[bool]:
        """Whether the safety checker marks each picture of at most one micro-batch; all False without a checker."""
        if not self.weights.safety_checker:
            return [False] * len(pictures)
        padding = pictures[-1:].repeat(self._micro_batch - len(pictures), 1, 1, 1)
        return self.weights.safety_checker.marks(torch.cat([pictures, padding]))[: len(pictures)]

    def _use_threads(self) -> None:
        """In a new thread, torch uses all cores, whatever was set in the main thread."""
        torch.set_num_threads(self._threads)
