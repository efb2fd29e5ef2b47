"""The latents of a picture, as its denoiser has them: encoded, scaled and packed. The way back is stock."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from momalisa_model.weights import Weights


@torch.inference_mode()
def encode_picture(weights: Weights, picture: NDArray[np.uint8]) -> Tensor:
    """The latents of one picture (height, width, 3), in the pipeline's own shape, float32, on the device.

    Always one picture alone, and the mean of the encoder's distribution, so that equal pictures have equal bits.
    """
    pipeline = weights.pipeline
    pixels = torch.from_numpy(picture).to(weights.device).float().permute(2, 0, 1)[None] / 127.5 - 1
    pixels = pixels.to(pipeline.vae.dtype)
    if hasattr(pipeline, "_encode_vae_image"):  # FLUX.2 normalises patches of latents, not latents
        return _packed(pipeline, pipeline._encode_vae_image(pixels, None).float())
    if "z_dim" in pipeline.vae.config:  # an autoencoder of videos: a picture is one of one frame
        pixels = pixels[:, :, None]
    latents = _scaled(pipeline.vae.config, weights.family.shifts, _mean(pipeline.vae.encode(pixels)).float())
    return _packed(pipeline, latents[:, :, 0] if latents.ndim == 5 else latents)


def _mean(encoded: Any) -> Tensor:
    """What an autoencoder returns has another name in each kind of them."""
    if hasattr(encoded, "latent_dist"):
        mean: Tensor = encoded.latent_dist.mode()
        return mean
    latents: Tensor = encoded.latents if hasattr(encoded, "latents") else encoded.latent
    return latents


def _scaled(config: Any, shifts: bool, latents: Tensor) -> Tensor:
    """The opposite of what stock pipelines do before they decode."""
    scale, shift = config.get("scaling_factor") or 1.0, shifts * (config.get("shift_factor") or 0.0)
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None or std is None:
        return (latents - shift) * scale
    of_channels = (1, -1, *[1] * (latents.ndim - 2))
    mean, std = (torch.tensor(one, device=latents.device).view(of_channels) for one in (mean, std))
    return (latents - mean) * scale / std


def _packed(pipeline: Any, latents: Tensor) -> Tensor:
    """Latents (1, channels, height, width) as tokens, if the denoiser takes tokens; without the batch dimension."""
    pack = getattr(pipeline, "_pack_latents", None)
    if pack is None:
        return latents[0]
    packed: Tensor = pack(latents) if hasattr(pipeline, "_encode_vae_image") else pack(latents, *latents.shape)
    return packed[0]
