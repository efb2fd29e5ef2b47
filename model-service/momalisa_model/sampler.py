"""Encode, interpolate, denoise, decode: a denoising loop over the parts of a diffusers pipeline.

Each frame of a batch has its own fraction. The batch always has the same size, so that a frame's bytes do not depend on
the other frames of the request. Independent of HTTP and of the device queue.
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


class Sampler:
    """Renders frames with one set of weights, always `micro_batch` at a time."""

    def __init__(self, weights: Weights, micro_batch: int) -> None:
        self.weights = weights
        self._parts = weights.pipeline
        self._micro_batch = micro_batch
        self._threads = torch.get_num_threads()

    def encode(self, recipe: Recipe) -> Leg:
        """Encode a recipe's prompts. Call it in the thread that renders the shard, before `frames`."""
        # In a new thread, torch uses all cores, whatever was set in the main thread.
        torch.set_num_threads(self._threads)
        return encode_leg(self.weights, recipe)

    def frames(
        self, recipe: Recipe, leg: Leg, fractions: Sequence[float], should_stop: ShouldStop = never
    ) -> Iterator[Frame]:
        """Render the frames at these fractions, in this order, one micro-batch at a time.

        Raises Cancelled between two denoising steps if should_stop() is true, and NotANumber if the numbers overflow.
        """
        for first in range(0, len(fractions), self._micro_batch):
            began = perf_counter()
            batch = fractions[first : first + self._micro_batch]
            pictures = _rounded(self.pictures(recipe, leg, batch, should_stop))
            marks = self._marks(pictures)
            seconds = (perf_counter() - began) / len(batch)
            for fraction, picture, marked in zip(batch, pictures, marks, strict=True):
                yield Frame(fraction, _png(picture), seconds, marked)

    @torch.inference_mode()
    def pictures(self, recipe: Recipe, leg: Leg, fractions: Sequence[float], should_stop: ShouldStop) -> Tensor:
        """At most one micro-batch, before rounding: (frames, height, width, 3) float32 in [0, 1], on the device.

        Raises Cancelled and NotANumber, as `frames` does.
        """
        padded = [*fractions, *[fractions[-1]] * (self._micro_batch - len(fractions))]
        prompt_embeds = slerp(leg.start, leg.end, torch.tensor(padded, dtype=torch.float64))
        image = self._decode(self._denoise(recipe, prompt_embeds, leg.negative, should_stop))[: len(fractions)]
        # Before clamping, which would turn infinity into white.
        if not image.isfinite().all():
            raise NotANumber(
                f"Numbers overflowed in {self.weights.dtype}. Request less guidance or another scheduler, or set "
                "MOMALISA_DTYPE to bfloat16 or float32 on every replica."
            )
        return (image * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)

    def warm_up(self, card: ModelCard) -> None:
        """Render once with the card's defaults, because the first run plans kernels, and check batch invariance.

        Raises UnsuitableModel if the bits of a frame change with its place in the batch.
        """
        here, moved = self.render_defaults(card), self.render_defaults(card, moved_by=1)
        if not torch.equal(here, moved.roll(-1, 0)):
            raise UnsuitableModel(
                f"On this machine, the bits of a frame depend on its place in a batch of {self._micro_batch}. Set "
                "MOMALISA_THREADS to a smaller power of two, or give all services a card with another micro_batch."
            )

    def render_defaults(self, card: ModelCard, moved_by: int = 0) -> Tensor:
        """One micro-batch with the card's defaults, each frame moved by so many places: see `pictures`.

        One step is enough: all steps run the same kernels.
        """
        names = ("negative_prompt", "width", "height", "guidance_scale", "scheduler", "model", "revision")
        defaults = {name: getattr(card, name) for name in names}
        recipe = Recipe(start="a", end="b", seed=0, num_inference_steps=1, **defaults)
        spread = [(place - moved_by) % self._micro_batch / self._micro_batch for place in range(self._micro_batch)]
        pictures = self.pictures(recipe, self.encode(recipe), spread, never)
        self._marks(_rounded(pictures))
        return pictures

    def _marks(self, pictures: Tensor) -> list[bool]:
        """Whether the safety checker marks each picture of at most one micro-batch; all False without a checker."""
        if not self.weights.safety_checker:
            return [False] * len(pictures)
        padding = pictures[-1:].repeat(self._micro_batch - len(pictures), 1, 1, 1)
        return self.weights.safety_checker.marks(torch.cat([pictures, padding]))[: len(pictures)]

    def _denoise(self, recipe: Recipe, prompt_embeds: Tensor, negative: Tensor, should_stop: ShouldStop) -> Tensor:
        """Prompt embeddings (frames, tokens, width) to clean latents (frames, channels, height, width), float32.

        Only the inputs of the UNet have its dtype: with some schedules, noise times sigma overflows in float16.
        """
        unet, device, dtype = self._parts.unet, self.weights.device, self.weights.dtype
        scheduler = for_one_run(recipe.scheduler, self._parts.scheduler.config, recipe.num_inference_steps)
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


def _rounded(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] to uint8 in [0, 255], on the CPU."""
    return (pictures * 255).round().to(torch.uint8).cpu()


def _png(picture: Tensor) -> bytes:
    """(height, width, 3) uint8 to a PNG file. Compressed fast: frames are compressed again in the films."""
    file = io.BytesIO()
    Image.fromarray(picture.numpy()).save(file, "PNG", compress_level=1)
    return file.getvalue()
