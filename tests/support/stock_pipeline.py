"""The stock diffusers pipeline as a reference for the frames of a walk. It shares no code with the services."""

from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray

from tests.support.processes import WEIGHTS

NEAR_PARALLEL = 0.9995


def slerp(start: NDArray[np.float64], end: NDArray[np.float64], fraction: float) -> NDArray[np.float64]:
    """Interpolate token by token on the sphere, but linearly where two tokens are nearly parallel or opposite."""
    mixed = np.empty_like(start)
    for token in np.ndindex(start.shape[:-1]):
        a, b = start[token], end[token]
        cosine = np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1)
        if abs(cosine) > NEAR_PARALLEL:
            mixed[token] = (1 - fraction) * a + fraction * b
        else:
            angle = np.arccos(cosine)
            mixed[token] = (np.sin((1 - fraction) * angle) * a + np.sin(fraction * angle) * b) / np.sin(angle)
    return mixed


class StockPipeline:
    """StableDiffusionPipeline with default components."""

    def __init__(self) -> None:
        self._pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
            str(WEIGHTS), dtype=torch.float32, use_safetensors=True
        )
        self._pipeline.set_progress_bar_config(disable=True)

    def paint(self, spec: dict[str, Any], fraction: float) -> NDArray[np.uint8]:
        """The frame of a two-stop walk at a fraction. Returns (height, width, 3)."""
        start, end = (self._embed(stop).astype(np.float64) for stop in spec["stops"])
        pipeline = self._pipeline
        side = pipeline.vae_scale_factor
        shape = (1, pipeline.unet.config.in_channels, spec["height"] // side, spec["width"] // side)
        noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(spec["seed"]))
        painted = pipeline(
            prompt_embeds=torch.from_numpy(slerp(start, end, fraction).astype(np.float32)),
            negative_prompt_embeds=torch.from_numpy(self._embed(spec["negative_prompt"])),
            latents=noise,
            num_inference_steps=spec["steps"],
            guidance_scale=spec["guidance_scale"],
            height=spec["height"],
            width=spec["width"],
            output_type="np",
        )
        pixels: NDArray[np.uint8] = (painted.images[0] * 255).round().astype(np.uint8)
        return pixels

    def _embed(self, prompt: str) -> NDArray[np.float32]:
        tokenizer, encoder = self._pipeline.tokenizer, self._pipeline.text_encoder
        tokens = tokenizer(
            prompt, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        )
        with torch.no_grad():
            embedded: NDArray[np.float32] = encoder(tokens.input_ids)[0].numpy()
        return embedded
