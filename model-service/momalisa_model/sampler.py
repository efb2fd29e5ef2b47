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
from momalisa_model.problems import NotANumber
from momalisa_model.schedulers import for_one_run
from momalisa_model.weights import Weights
from momalisa_model.wire import ModelCard, Recipe, Unheard

ShouldStop = Callable[[], bool]


class Cancelled(Exception):
    """should_stop said so."""


@dataclass(frozen=True)
class Leg:
    """What two prompts and a negative one became: (tokens, width) each, on the CPU; and what went unheard."""

    start: Tensor
    end: Tensor
    negative: Tensor
    unheard: tuple[Unheard, ...]


@dataclass(frozen=True)
class Frame:
    """One picture as PNG, and the device's seconds that it took."""

    fraction: float
    png: bytes
    seconds: float


class Sampler:
    """Renders frames with one set of weights, `micro_batch` at a time."""

    def __init__(self, weights: Weights, micro_batch: int) -> None:
        self.weights = weights
        self._parts = weights.pipeline
        self._micro_batch = micro_batch
        self._threads = torch.get_num_threads()

    def encode(self, recipe: Recipe) -> Leg:
        """The leg's prompts as the text encoder hears them, each encoded alone so that its neighbours do not matter."""
        # A thread starts with as many as the machine has cores, whatever the main thread was told.
        torch.set_num_threads(self._threads)
        prompts = {"start": recipe.start, "end": recipe.end, "negative_prompt": recipe.negative_prompt}
        heard = {name: self._encode(name, prompt) for name, prompt in prompts.items()}
        start, end, negative = (embeds for embeds, _ in heard.values())
        return Leg(start, end, negative, tuple(warning for _, warning in heard.values() if warning))

    def frames(
        self, recipe: Recipe, leg: Leg, fractions: Sequence[float], should_stop: ShouldStop = lambda: False
    ) -> Iterator[Frame]:
        """Frames in the order of their fractions, a micro-batch at a time.

        Raises Cancelled between two denoising steps once should_stop() is true, NotANumber where precision ran out.
        """
        for first in range(0, len(fractions), self._micro_batch):
            began = perf_counter()
            asked = fractions[first : first + self._micro_batch]
            pictures = self.pictures(recipe, leg, asked, should_stop)
            if not pictures.isfinite().all():
                raise NotANumber("Set MOMALISA_DTYPE to bfloat16 or float32 for this model, or ask for less guidance.")
            pictures = (pictures * 255).round().to(torch.uint8).cpu()
            seconds = (perf_counter() - began) / len(asked)
            for fraction, picture in zip(asked, pictures, strict=True):
                yield Frame(fraction, _png(picture), seconds)

    @torch.inference_mode()
    def pictures(self, recipe: Recipe, leg: Leg, fractions: Sequence[float], should_stop: ShouldStop) -> Tensor:
        """One micro-batch at most, before rounding: (frames, height, width, 3) float32 in [0, 1], on the device."""
        padded = [*fractions, *[fractions[-1]] * (self._micro_batch - len(fractions))]
        prompt_embeds = slerp(leg.start, leg.end, torch.tensor(padded, dtype=torch.float64))
        latents = self._denoise(recipe, prompt_embeds, leg.negative, should_stop)
        return self._decode(latents)[: len(fractions)]

    def warm_up(self, card: ModelCard) -> None:
        """Render one micro-batch as the card's defaults have it: first runs plan kernels and grow memory pools.

        One step is enough: the others run the same kernels again.
        """
        names = ("negative_prompt", "width", "height", "guidance_scale", "scheduler", "model", "revision")
        defaults = {name: getattr(card, name) for name in names}
        recipe = Recipe(start="a", end="b", seed=0, num_inference_steps=1, **defaults)
        for _ in self.frames(recipe, self.encode(recipe), [0.0]):
            pass

    def _encode(self, name: str, prompt: str) -> tuple[Tensor, Unheard | None]:
        """(tokens, width) on the CPU, and a warning where the encoder's limit cut the prompt."""
        tokenizer, text_encoder, limit = self._parts.tokenizer, self._parts.text_encoder, self.weights.token_limit
        tokens = tokenizer(prompt, padding="max_length", max_length=limit, truncation=True, return_tensors="pt")
        masked = getattr(text_encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(self.weights.device) if masked else None
        with torch.inference_mode():
            embeds = text_encoder(tokens.input_ids.to(self.weights.device), attention_mask=mask)[0][0].cpu()
        whole = tokenizer(prompt).input_ids
        if len(whole) <= limit:
            return embeds, None
        unheard = tokenizer.decode(whole[limit - 1 : -1])
        detail = f"The model hears {limit - 2} tokens of a prompt; this one has {len(whole) - 2}. Shorten it."
        return embeds, Unheard(prompt=name, unheard=unheard, detail=detail)

    def _denoise(self, recipe: Recipe, prompt_embeds: Tensor, negative: Tensor, should_stop: ShouldStop) -> Tensor:
        """(frames, tokens, width) of prompts to (frames, channels, height, width) of clean latents."""
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
            seen = scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, t)
            noise = unet(seen, t, encoder_hidden_states=prompt_embeds, timestep_cond=timestep_cond, return_dict=False)[
                0
            ]
            if guided:
                without, with_prompt = noise.chunk(2)
                noise = without + recipe.guidance_scale * (with_prompt - without)
            latents = scheduler.step(noise, t, latents, return_dict=False)[0]
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        """Latents to (frames, height, width, 3) float32 in [0, 1]."""
        vae = self._parts.vae
        image: Tensor = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
        return (image * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float()

    def _noise(self, recipe: Recipe) -> Tensor:
        """The walk's one noise tensor, once for each frame of a micro-batch."""
        factor = self.weights.vae_scale_factor
        noise = initial_latents(
            recipe.seed, self.weights.latent_channels, recipe.height // factor, recipe.width // factor
        )
        return noise.repeat(self._micro_batch, 1, 1, 1).to(self.weights.device, self.weights.dtype)

    def _guidance_embedding(self, guidance_scale: float) -> Tensor | None:
        """What models that were distilled with guidance want in place of a second pass: (frames, width), else None."""
        width = self._parts.unet.config.time_cond_proj_dim
        if width is None:
            return None
        scales = torch.full((self._micro_batch,), guidance_scale - 1)
        embedding: Tensor = self._parts.get_guidance_scale_embedding(scales, embedding_dim=width)
        return embedding.to(self.weights.device, self.weights.dtype)


def _png(picture: Tensor) -> bytes:
    """(height, width, 3) uint8 to PNG, packed fast: frames travel one hop and are packed again in the films."""
    file = io.BytesIO()
    Image.fromarray(picture.numpy()).save(file, "PNG", compress_level=1)
    return file.getvalue()
