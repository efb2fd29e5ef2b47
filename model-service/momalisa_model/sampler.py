"""Encode, interpolate, denoise, decode: a loop of our own over the parts of a diffusers pipeline.

Many frames a batch, each with a fraction of its own; the batch always has the same size, so that a frame's bytes do
not depend on what else was asked for. Knows nothing of HTTP, lines or devices in use.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from PIL import Image
from torch import Tensor

from momalisa_model.interpolation import initial_latents, slerp
from momalisa_model.problems import NotANumber, UnsuitableModel
from momalisa_model.prompts import Leg, encode_leg
from momalisa_model.schedulers import for_one_run
from momalisa_model.weights import Weights
from momalisa_model.wire import ModelCard, Recipe

ShouldStop = Callable[[], bool]


def never() -> bool:
    """The ShouldStop of who waits to the end."""
    return False


class Cancelled(Exception):
    """should_stop said so."""


@dataclass(frozen=True)
class Frame:
    """One picture as PNG, the device's seconds that it took, and whether the model's safety checker objects to it."""

    fraction: float
    png: bytes
    seconds: float
    marked: bool


class Sampler:
    """Renders frames with one set of weights, `micro_batch` at a time."""

    def __init__(self, weights: Weights, micro_batch: int) -> None:
        self.weights = weights
        self._parts = weights.pipeline
        self._micro_batch = micro_batch
        self._threads = torch.get_num_threads()

    def encode(self, recipe: Recipe) -> Leg:
        """What a shard begins with, in the thread that will render it."""
        # A thread starts with as many as the machine has cores, whatever the main thread was told.
        torch.set_num_threads(self._threads)
        return encode_leg(self.weights, recipe)

    def frames(
        self, recipe: Recipe, leg: Leg, fractions: Sequence[float], should_stop: ShouldStop = never
    ) -> Iterator[Frame]:
        """Frames in the order of their fractions, a micro-batch at a time.

        Raises Cancelled between two denoising steps once should_stop() is true, NotANumber where precision ran out.
        """
        for first in range(0, len(fractions), self._micro_batch):
            began = perf_counter()
            asked = fractions[first : first + self._micro_batch]
            pictures = _rounded(self.pictures(recipe, leg, asked, should_stop))
            marks = self._marks(pictures)
            seconds = (perf_counter() - began) / len(asked)
            for fraction, picture, marked in zip(asked, pictures, marks, strict=True):
                yield Frame(fraction, _png(picture), seconds, marked)

    @torch.inference_mode()
    def pictures(self, recipe: Recipe, leg: Leg, fractions: Sequence[float], should_stop: ShouldStop) -> Tensor:
        """One micro-batch at most, before rounding: (frames, height, width, 3) float32 in [0, 1], on the device.

        Raises Cancelled and NotANumber as frames() does.
        """
        padded = [*fractions, *[fractions[-1]] * (self._micro_batch - len(fractions))]
        prompt_embeds = slerp(leg.start, leg.end, torch.tensor(padded, dtype=torch.float64))
        image = self._decode(self._denoise(recipe, prompt_embeds, leg.negative, should_stop))[: len(fractions)]
        # Here, since clamping would make a white picture of infinity.
        if not image.isfinite().all():
            raise NotANumber(
                f"{self.weights.dtype} has run over. Ask for less guidance or another scheduler; or set MOMALISA_DTYPE "
                "to bfloat16 or float32 on every replica."
            )
        return (image * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)

    def warm_up(self, card: ModelCard) -> None:
        """Render as the card's defaults have it, since first runs plan kernels; and see that places do not matter.

        One step is enough: the others run the same kernels again. Raises UnsuitableModel where the same frames, each
        moved on by one place, come out with other bits: then bytes would depend on what else was asked for.
        """
        names = ("negative_prompt", "width", "height", "guidance_scale", "scheduler", "model", "revision")
        defaults = {name: getattr(card, name) for name in names}
        recipe = Recipe(start="a", end="b", seed=0, num_inference_steps=1, **defaults)
        leg, frames = self.encode(recipe), self._micro_batch
        spread = [place / frames for place in range(frames)]
        here = self.pictures(recipe, leg, spread, never)
        moved = self.pictures(recipe, leg, spread[-1:] + spread[:-1], never)
        self._marks(_rounded(here))
        if not torch.equal(here, moved.roll(-1, 0)):
            raise UnsuitableModel(
                f"On this machine a frame's bits change with its place among {frames}. Set "
                "MOMALISA_THREADS to a smaller power of two, or give all services a card with another micro_batch."
            )

    def _marks(self, pictures: Tensor) -> list[bool]:
        """Which of one micro-batch's pictures the safety checker marks, if there is one; padded as they were."""
        if not self.weights.safety_checker:
            return [False] * len(pictures)
        padding = pictures[-1:].repeat(self._micro_batch - len(pictures), 1, 1, 1)
        return self.weights.safety_checker.marks(torch.cat([pictures, padding]))[: len(pictures)]

    def _denoise(self, recipe: Recipe, prompt_embeds: Tensor, negative: Tensor, should_stop: ShouldStop) -> Tensor:
        """(frames, tokens, width) of prompts to (frames, channels, height, width) of clean latents, float32.

        Only what the UNet sees has its dtype: noise times sigma runs over in float16 with some schedules.
        """
        unet, device, dtype = self._parts.unet, self.weights.device, self.weights.dtype
        scheduler = for_one_run(recipe.scheduler, dict(self._parts.scheduler.config))
        scheduler.set_timesteps(recipe.num_inference_steps, device=device)
        guided = recipe.guidance_scale > 1 and unet.config.time_cond_proj_dim is None
        if guided:
            prompt_embeds = torch.cat([negative.expand_as(prompt_embeds), prompt_embeds])
        prompt_embeds = prompt_embeds.to(device, dtype)
        timestep_cond = self._guidance_embedding(recipe.guidance_scale)
        latents: Tensor = self._noise(recipe) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            if should_stop():
                raise Cancelled
            seen = scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, t).to(dtype)
            noise = unet(seen, t, prompt_embeds, timestep_cond=timestep_cond, return_dict=False)[0].float()
            if guided:
                without, with_prompt = noise.chunk(2)
                noise = without + recipe.guidance_scale * (with_prompt - without)
            latents = scheduler.step(noise, t, latents, return_dict=False)[0]
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        """Latents to (frames, 3, height, width) float32, in [-1, 1] but for what overshoots."""
        vae = self._parts.vae
        image: Tensor = vae.decode((latents / vae.config.scaling_factor).to(self.weights.dtype), return_dict=False)[0]
        return image.float()

    def _noise(self, recipe: Recipe) -> Tensor:
        """The walk's one noise tensor, once for each frame of a micro-batch: float32."""
        factor = self.weights.vae_scale_factor
        noise = initial_latents(
            recipe.seed, self.weights.latent_channels, recipe.height // factor, recipe.width // factor
        )
        return noise.repeat(self._micro_batch, 1, 1, 1).to(self.weights.device)

    def _guidance_embedding(self, guidance_scale: float) -> Tensor | None:
        """What models that were distilled with guidance want in place of a second pass: (frames, width), else None."""
        width = self._parts.unet.config.time_cond_proj_dim
        if width is None:
            return None
        scales = torch.full((self._micro_batch,), guidance_scale - 1)
        embedding: Tensor = self._parts.get_guidance_scale_embedding(scales, embedding_dim=width)
        return embedding.to(self.weights.device, self.weights.dtype)


def _rounded(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] as the uint8 of their PNGs, on the CPU."""
    return (pictures * 255).round().to(torch.uint8).cpu()


def _png(picture: Tensor) -> bytes:
    """(height, width, 3) uint8 to PNG, packed fast: frames travel one hop and are packed again in the films."""
    file = io.BytesIO()
    Image.fromarray(picture.numpy()).save(file, "PNG", compress_level=1)
    return file.getvalue()
