"""Loads the diffusion model that paints what layers hide, and tries it. Imports all pipelines for inpainting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import diffusers
import numpy as np
import torch
from diffusers import AutoPipelineForInpainting

from momalisa_model.cancellation import never
from momalisa_model.device_errors import explained
from momalisa_model.engines.parallax_painter import Painter
from momalisa_model.families import denoiser_of
from momalisa_model.fill_files import find_filling
from momalisa_model.hub import Report
from momalisa_model.model_card import read_card, size_multiple
from momalisa_model.problems import UnsuitableModel
from momalisa_model.settings import ModelSource
from momalisa_model.weights import Weights, dtype_of_family, load_pipeline

# Changes when the same recipe with the same model becomes other paint.
PAINTING: Final = 1
FEWEST_STEPS: Final = 2


def load_painter(setting: str, source: ModelSource, device: torch.device, report: Report) -> Painter:
    """The painter with the model in `fill_model`.

    source: of the model for depth. Raises UnsuitableModel and DownloadFailed.
    """
    dtype_for = partial(dtype_of_family, source, device)
    files = find_filling(setting, dtype_for, report)
    dtype = dtype_for(files.family)
    torch.backends.cudnn.deterministic = True
    with explained(files.model, "its paint", "a half precision as the recipe's dtype, or a smaller fill_model"):
        pipeline = load_pipeline(files, dtype)
        if pipeline.vae.dtype != dtype:
            # The pipeline of SDXL computes in float32, but rounds the weights after its first picture.
            pipeline.vae.to(dtype)
        painter = _painter(Weights(pipeline, files.model, files.revision, files.folder, files.variants, device, dtype))
        _try_out(painter)
    return painter


def _painter(weights: Weights) -> Painter:
    card = read_card(weights, ModelSource(model_id=str(weights.folder)))
    inpainting = AutoPipelineForInpainting.from_pipe(weights.pipeline).to(weights.device)
    inpainting.set_progress_bar_config(disable=True)
    family, steps = weights.family, max(card.num_inference_steps, FEWEST_STEPS)
    # Guidance between two empty prompts is none.
    scale = card.guidance_scale if family.guided_above is None else family.guided_above
    return Painter(
        pipeline=inpainting,
        network=denoiser_of(weights.pipeline),
        settings={"num_inference_steps": steps, family.scale: scale},
        side=max(card.width, card.height),
        multiple=size_multiple(weights),
        model=weights.model,
        revision=weights.revision,
        made_of=_made_of(weights, {"steps": steps, "scale": scale, "side": max(card.width, card.height)}),
    )


def _try_out(painter: Painter) -> None:
    """Paint a little in few steps. Raises UnsuitableModel if the pipeline for inpainting refuses this model."""
    where = np.zeros((painter.side, painter.side), bool)
    where[: painter.side // 2] = True
    short = replace(painter, settings={**painter.settings, "num_inference_steps": FEWEST_STEPS})
    try:
        short.paint(np.full((*where.shape, 3), 128, np.uint8), where, 0, never)
    except ValueError as error:
        raise UnsuitableModel(
            f"{painter.model} in fill_model cannot inpaint: {error} Use another model, or leave fill_model out."
        ) from error


def _made_of(weights: Weights, settings: Mapping[str, float]) -> dict[str, str | int]:
    variants = sorted({str(variant) for variant in weights.variants.values() if variant})
    return {
        "fill": f"{weights.model} {weights.revision}",
        "fill_dtype": str(weights.dtype).removeprefix("torch."),
        "fill_settings": ", ".join(f"{name} {value:g}" for name, value in settings.items()),
        "painting": PAINTING,
        "diffusers": diffusers.__version__,
        **({"fill_variants": ", ".join(variants)} if variants else {}),
    }
