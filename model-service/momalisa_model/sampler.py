"""Encode, interpolate, denoise, decode: a denoising loop over the parts of a diffusers pipeline.

Each frame of a batch has its own fraction. The batch always has the same size, so that a frame's bytes do not depend on
the other frames of the request. Independent of HTTP and of the device queue.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from momalisa_model.interpolation import initial_latents, nearer_first, slerp
from momalisa_model.packing import Finish
from momalisa_model.png import encode_png
from momalisa_model.problems import NotANumber, UnsuitableModel
from momalisa_model.prompts import Leg, PromptEncoder
from momalisa_model.schedulers import for_one_run
from momalisa_model.transfer import Transfer, rounded
from momalisa_model.weights import Weights
from momalisa_model.wire import EARLY_BLEND, ModelCard, Recipe

ShouldStop = Callable[[], bool]


def never() -> bool:
    """A ShouldStop that never cancels."""
    return False


class Cancelled(Exception):
    """Rendering ended early because should_stop() was true."""


@dataclass(frozen=True)
class Frame:
    """One picture as a PNG file, its device time, and whether the model's safety checker objects to it."""

    fraction: float
    png: bytes
    seconds: float
    marked: bool


class _Prompts(NamedTuple):
    """Prompt embeddings of the frames of a batch, (frames, tokens, width) each: see `nearer_first`."""

    negative: Tensor
    mixed: Tensor
    nearer: Tensor
    farther: Tensor
    weight: Tensor


class Sampler:
    """Renders frames with one set of weights, always `micro_batch` at a time.

    features, batch_invariant: those of ModelAnswer, after `warm_up`.
    """

    def __init__(self, weights: Weights, micro_batch: int) -> None:
        self.weights = weights
        self._parts = weights.pipeline
        self._micro_batch = micro_batch
        self._threads = torch.get_num_threads()
        self.features: tuple[str, ...] = (EARLY_BLEND,)
        self.batch_invariant = True
        self._encoder = PromptEncoder(weights)

    def encode(self, recipe: Recipe) -> Leg:
        """Encode a recipe's prompts, in any thread. Prompts that were encoded lately are not encoded again."""
        self._use_threads()
        return self._encoder.leg(recipe)

    def frames(
        self, recipe: Recipe, leg: Leg, fractions: Sequence[float], should_stop: ShouldStop = never
    ) -> Iterator[Frame]:
        """Render the frames at these fractions, in this order, one micro-batch at a time.

        Raises what `batches` and its items raise.
        """
        return chain.from_iterable(finish() for finish in self.batches(recipe, leg, fractions, should_stop))

    def batches(
        self, recipe: Recipe, leg: Leg, fractions: Sequence[float], should_stop: ShouldStop = never
    ) -> Iterator[Finish[Frame]]:
        """Render one micro-batch after another. The items do what is left without the device, in any thread.

        Raises Cancelled between two denoising steps if should_stop() is true. The items raise NotANumber if the numbers
        have overflowed.
        """
        self._use_threads()
        for first in range(0, len(fractions), self._micro_batch):
            batch = fractions[first : first + self._micro_batch]
            transfer = Transfer(self.weights.device)
            transfer.start(*self._render(recipe, leg, batch, should_stop))
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
        return NotANumber(
            f"Numbers overflowed in {self.weights.dtype}. Request less guidance or another scheduler, or set "
            "MOMALISA_DTYPE to bfloat16 or float32 on every replica."
        )

    def pictures(self, recipe: Recipe, leg: Leg, fractions: Sequence[float], should_stop: ShouldStop) -> Tensor:
        """At most one micro-batch, before rounding: (frames, height, width, 3) float32 in [0, 1], on the device.

        Raises Cancelled and NotANumber, as `frames` does.
        """
        pictures, valid = self._render(recipe, leg, fractions, should_stop)
        if not valid.item():
            raise self._overflow()
        return pictures

    @torch.inference_mode()
    def _render(
        self, recipe: Recipe, leg: Leg, fractions: Sequence[float], should_stop: ShouldStop
    ) -> tuple[Tensor, Tensor]:
        """The tensor of `pictures`, and whether all its numbers were finite before clamping, on the device."""
        padded = [*fractions, *[fractions[-1]] * (self._micro_batch - len(fractions))]
        image = self._decode(self._denoise(recipe, leg, padded, should_stop))[: len(fractions)]
        return (image * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1), image.isfinite().all()

    def warm_up(self, card: ModelCard, strict: bool = True) -> None:
        """Render once with the card's defaults, because the first run plans kernels, and check batch invariance.

        strict: raise UnsuitableModel if the bits of a frame change with its place in the batch; otherwise, set
        `batch_invariant`. Without batch invariance of the passes that only the early blend and a guidance interval
        have, strict refuses both.
        """
        invariant = self._is_batch_invariant(card)
        few = min(3, card.max_steps)
        if not self._is_batch_invariant(card, num_inference_steps=few, guidance_interval=(0.0, 0.3), blend="early"):
            self.features = () if strict else self.features
            invariant &= card.guidance_interval is None
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

    def _is_batch_invariant(self, card: ModelCard, **changes: Any) -> bool:
        here, moved = self.render_defaults(card, **changes), self.render_defaults(card, moved_by=1, **changes)
        return torch.equal(here, moved.roll(-1, 0))

    def render_defaults(self, card: ModelCard, moved_by: int = 0, **changes: Any) -> Tensor:
        """One micro-batch with the card's defaults, each frame moved by so many places: see `pictures`.

        changes: of the recipe. One step is enough for the defaults: all their steps run the same kernels.
        """
        names = ("negative_prompt", "width", "height", "guidance_scale", "scheduler", "model", "revision")
        defaults = {"num_inference_steps": 1} | {name: getattr(card, name) for name in names}
        recipe = Recipe(start="a", end="b", seed=0, **(defaults | changes))
        spread = [(place - moved_by) % self._micro_batch / self._micro_batch for place in range(self._micro_batch)]
        pictures = self.pictures(recipe, self.encode(recipe), spread, never)
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

    def _denoise(self, recipe: Recipe, leg: Leg, fractions: Sequence[float], should_stop: ShouldStop) -> Tensor:
        """The frames at these fractions as clean latents (frames, channels, height, width), float32.

        The early blend follows Liu et al., Compositional Visual Generation with Composable Diffusion Models, 2022; the
        guidance interval is that of Kynkäänniemi et al., Applying Guidance in a Limited Interval, 2024.
        """
        scheduler = for_one_run(recipe.scheduler, self._parts.scheduler.config, recipe.num_inference_steps)
        scheduler.set_timesteps(recipe.num_inference_steps, device=self.weights.device)
        steps = len(scheduler.timesteps)
        early = range(steps // 3 if recipe.blend == "early" else 0)
        guided = self._guided(recipe, steps)
        prompts = self._prompts(leg, fractions)
        timestep_cond = self._guidance_embedding(recipe.guidance_scale)
        latents: Tensor = self._noise(recipe) * scheduler.init_noise_sigma
        for step, t in enumerate(scheduler.timesteps):
            if should_stop():
                raise Cancelled
            predict = partial(self._predict, scheduler.scale_model_input(latents, t), t, timestep_cond)
            prompt_embeds = prompts.nearer if step in early else prompts.mixed
            *without, noise = predict(prompts.negative, prompt_embeds) if step in guided else predict(prompt_embeds)
            if step in early:
                (farther,) = predict(prompts.farther)
                noise = (1 - prompts.weight) * noise + prompts.weight * farther
            if without:
                noise = without[0] + recipe.guidance_scale * (noise - without[0])
            latents = scheduler.step(noise, t, latents, return_dict=False)[0]
        return latents

    def _prompts(self, leg: Leg, fractions: Sequence[float]) -> _Prompts:
        """The embeddings of the frames at these fractions, on the device."""
        along = torch.tensor(fractions, dtype=torch.float64)
        mixed, negative = slerp(leg.start, leg.end, along), leg.negative.expand(len(along), -1, -1)
        nearer, farther, weight = nearer_first(leg.start, leg.end, along)
        device, dtype = self.weights.device, self.weights.dtype
        return _Prompts(
            negative=negative.to(device, dtype),
            mixed=mixed.to(device, dtype),
            nearer=nearer.to(device, dtype),
            farther=farther.to(device, dtype),
            weight=weight.to(device)[:, None, None, None],
        )

    def _guided(self, recipe: Recipe, steps: int) -> range:
        """The steps with classifier-free guidance. Models that were distilled with guidance have none."""
        if recipe.guidance_scale <= 1 or self._parts.unet.config.time_cond_proj_dim is not None:
            return range(0)
        first, last = recipe.guidance_interval or (0, 1)
        return range(math.ceil(first * steps), math.ceil(last * steps))

    def _predict(
        self, latents: Tensor, t: Tensor, timestep_cond: Tensor | None, *prompt_embeds: Tensor
    ) -> tuple[Tensor, ...]:
        """The noise in the latents for each of these prompt embeddings, in one pass: float32, shaped like the latents.

        Only the inputs of the UNet have its dtype: with some schedules, noise times sigma overflows in float16.
        """
        seen = torch.cat([latents] * len(prompt_embeds)).to(self.weights.dtype)
        embeds = torch.cat(prompt_embeds)
        noise = self._parts.unet(seen, t, embeds, timestep_cond=timestep_cond, return_dict=False)[0]
        return tuple(noise.float().chunk(len(prompt_embeds)))

    def _decode(self, latents: Tensor) -> Tensor:
        """Latents to pictures (frames, 3, height, width), float32, in [-1, 1] or slightly outside."""
        vae = self._parts.vae
        image: Tensor = vae.decode((latents / vae.config.scaling_factor).to(self.weights.dtype), return_dict=False)[0]
        return image.float()

    def _noise(self, recipe: Recipe) -> Tensor:
        """The walk's noise, repeated for each frame of a micro-batch: (frames, channels, height, width) float32."""
        factor = self.weights.vae_scale_factor
        noise = initial_latents(
            recipe.seed, self.weights.latent_channels, recipe.height // factor, recipe.width // factor
        )
        return noise.repeat(self._micro_batch, 1, 1, 1).to(self.weights.device)

    def _guidance_embedding(self, guidance_scale: float) -> Tensor | None:
        """The guidance as an embedding (frames, width) for models that were distilled with it; None for others."""
        width = self._parts.unet.config.time_cond_proj_dim
        if width is None:
            return None
        scales = torch.full((self._micro_batch,), guidance_scale - 1)
        embedding: Tensor = self._parts.get_guidance_scale_embedding(scales, embedding_dim=width)
        return embedding.to(self.weights.device, self.weights.dtype)
