"""Renders through a stock pipeline of diffusers: embeddings between two prompts, then the pipeline's own `__call__`.

All frames of a call draw the same noise, and each has its own fraction. The number of frames is the caller's business.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from momalisa_model.cancellation import ShouldStop
from momalisa_model.engines.deep_cache import reusing_deep_blocks
from momalisa_model.engines.dip import Begin, dip
from momalisa_model.engines.passes import Blend, GuidancePasses, float32_outside, stoppable
from momalisa_model.engines.steps import FinishedLatents
from momalisa_model.families import POOLED, denoiser_of, is_guided, reads_scale
from momalisa_model.interpolation import (
    blend_masks,
    equal_generators,
    nearer_first,
    of_one_length,
    slerp,
    weight_of_farther,
)
from momalisa_model.prompts import Leg
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.schedulers import for_one_run
from momalisa_model.weights import Weights


@torch.inference_mode()
def render(
    weights: Weights,
    recipe: BetweenRecipe,
    leg: Leg,
    fractions: Sequence[float],
    should_stop: ShouldStop,
    deep_cache: int = 1,
    begin: Begin | None = None,
) -> tuple[Tensor, Tensor]:
    """The frames at these fractions, before rounding: (frames, height, width, 3) float32 in [0, 1], on the device.

    deep_cache: the interval of `reusing_deep_blocks`, in steps. begin: of frames that come from pictures. Also returns
    a bool on the device: whether all numbers were finite before clamping, which turns infinity into white.
    Raises Cancelled between two passes of the denoiser if should_stop() is true.
    """
    run = _one_run(weights, recipe, from_latents=begin is not None)
    if begin:
        dip(run, begin, recipe.num_inference_steps)
    image = _run(run, weights, recipe, leg, fractions, should_stop, deep_cache).float()
    return (image * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1), image.isfinite().all()


@torch.inference_mode()
def finished_latents(
    weights: Weights, recipe: BetweenRecipe, leg: Leg, frames: int, should_stop: ShouldStop, deep_cache: int = 1
) -> Tensor:
    """The latents of the frame at fraction 0, in the pipeline's own shape, float32, on the device.

    frames: how many equal ones are rendered at once, as for any other frame. The rest is as for `render`.
    """
    run = _one_run(weights, recipe)
    run.scheduler = FinishedLatents(run.scheduler)
    _run(run, weights, recipe, leg, [0.0] * frames, should_stop, deep_cache, output_type="latent")
    latents: Tensor = run.scheduler.latents[0]
    return latents


def _run(
    run: Any,
    weights: Weights,
    recipe: BetweenRecipe,
    leg: Leg,
    fractions: Sequence[float],
    should_stop: ShouldStop,
    deep_cache: int,
    **more: Any,
) -> Tensor:
    """What `__call__` returns for the frames at these fractions."""
    frames = len(fractions)
    generators = equal_generators(recipe.seed, frames)
    settings = {**_settings(weights, recipe), **_conditions(weights, leg, fractions), "generator": generators, **more}
    denoiser = denoiser_of(run)
    with ExitStack() as around:
        around.enter_context(stoppable(denoiser, should_stop))
        if weights.float32_latents:
            settings |= _float32_latents(weights, recipe, generators)
            around.enter_context(float32_outside(denoiser, weights.dtype))
        if recipe.guidance_interval or recipe.blend == "early":
            blend = _blend(weights, leg, fractions) if recipe.blend == "early" else None
            passes = GuidancePasses(run, frames, recipe.guidance_interval, blend)
            around.enter_context(passes.around(denoiser))
        if deep_cache > 1:
            around.enter_context(reusing_deep_blocks(run, deep_cache))
        images: Tensor = run(**settings).images
    return images


def _one_run(weights: Weights, recipe: BetweenRecipe, from_latents: bool = False) -> Any:
    """A shallow copy of the pipeline with a scheduler of its own: both keep the state of a run."""
    run = copy.copy(weights.pipeline)
    run.scheduler = for_one_run(recipe.scheduler, run.scheduler.config, recipe.num_inference_steps, from_latents)
    run.image_processor = _AsDecoded(run.image_processor)
    return run


class _AsDecoded:
    """An image processor that returns pictures as the VAE decodes them, in [-1, 1] or slightly outside."""

    def __init__(self, stock: Any) -> None:
        self._stock = stock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stock, name)

    def postprocess(self, image: Tensor, **_: object) -> Tensor:
        """The picture itself."""
        return image


def _settings(weights: Weights, recipe: BetweenRecipe) -> dict[str, Any]:
    """The arguments of `__call__` that do not depend on the prompts."""
    pipeline, family = weights.pipeline, weights.family
    used = is_guided(pipeline, recipe.guidance_scale) or reads_scale(pipeline)
    settings: dict[str, Any] = {
        "height": recipe.height,
        "width": recipe.width,
        "num_inference_steps": recipe.num_inference_steps,
        family.scale: recipe.guidance_scale if used else 0.0,
        "output_type": "pt",
        **family.settings,
    }
    takes = inspect.signature(pipeline.__call__).parameters
    # Sana and PixArt have a default, which must not accompany embeddings.
    if "negative_prompt" in takes:
        settings["negative_prompt"] = None
    # Sana-Sprint's middle timestep is for two steps only.
    if "intermediate_timesteps" in takes and recipe.num_inference_steps != 2:
        settings["intermediate_timesteps"] = None
    return settings


def _conditions(weights: Weights, leg: Leg, fractions: Sequence[float]) -> dict[str, Any]:
    """The embeddings and masks of the frames at these fractions, as arguments of `__call__`, on the device."""
    along = torch.tensor(fractions, dtype=torch.float64)
    batch: dict[str, Tensor] = {name: one.expand(len(along), *one.shape) for name, one in leg.negative.items()}
    for name in leg.start:
        start, end = leg.start[name], leg.end[name]
        if "pooled" not in name:
            start, end = of_one_length(start, end)
        batch[name] = blend_masks(start, end, along) if "mask" in name else slerp(start, end, along, weights.device)
    on_device = {name: value.to(weights.device) for name, value in batch.items()}
    return {name: list(value) if weights.family.lists else value for name, value in on_device.items()}


def _blend(weights: Weights, leg: Leg, fractions: Sequence[float]) -> Blend:
    """The early blend of the frames at these fractions, as arguments of the UNet."""
    along = torch.tensor(fractions, dtype=torch.float64)
    sides: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for name in leg.start:
        parts = nearer_first(leg.start[name], leg.end[name], along)
        for side, part in zip(sides, parts, strict=True):
            value = part.to(weights.device, weights.dtype)
            side |= (
                {"added_cond_kwargs": {"text_embeds": value}} if name == POOLED else {"encoder_hidden_states": value}
            )
    return Blend(*sides, weight_of_farther(along).to(weights.device))


def _float32_latents(weights: Weights, recipe: BetweenRecipe, generators: list[torch.Generator]) -> dict[str, Any]:
    """Latents in float32 although the network has less precision; the VAE gets its own at the end."""
    pipeline = weights.pipeline
    side = pipeline.vae_scale_factor
    shape = (len(generators), pipeline.unet.config.in_channels, recipe.height // side, recipe.width // side)

    def last_step(run: Any, step: int, _: object, tensors: dict[str, Any]) -> dict[str, Any]:
        last = step == run.num_timesteps - 1
        return {name: tensor.to(run.vae.dtype) if last else tensor for name, tensor in tensors.items()}

    latents = randn_tensor(shape, generator=generators, device=weights.device, dtype=torch.float32)
    # LCM decodes what it calls denoised, not its latents.
    names = [name for name in ("latents", "denoised") if name in pipeline._callback_tensor_inputs]
    return {"latents": latents, "callback_on_step_end": last_step, "callback_on_step_end_tensor_inputs": names}
