"""The card a replica works by, and the fingerprint of what it renders with: read from files and weights, no tensors."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import PIL
import torch
import transformers

from momalisa_model.problems import UnsuitableModel
from momalisa_model.schedulers import OFFERED, SCHEDULERS, name_of
from momalisa_model.settings import Settings
from momalisa_model.weights import Weights
from momalisa_model.wire import ModelCard


def derive_card(weights: Weights, wishes: Mapping[str, Any] | None = None) -> ModelCard:
    """A card for weights that came without one: sizes and limits as loaded, the customary steps and guidance.

    wishes: fields that somebody chose; all but what only the weights can say are taken from there.
    """
    unet = weights.pipeline.unet.config
    size = unet.sample_size if isinstance(unet.sample_size, (list, tuple)) else [unet.sample_size] * 2
    height, width = (int(side) * weights.vae_scale_factor for side in size)
    # Latents that halve evenly down to the UNet's lowest level: nothing is cropped or resized on the way up.
    multiple = weights.vae_scale_factor * 2 ** (len(unet.block_out_channels) - 1)
    few_steps = "turbo" in weights.model.lower()
    scheduler = name_of(weights.pipeline.scheduler) or "Euler"
    derived = {
        "micro_batch": 8 if weights.device.type == "cuda" else 4,
        "width": _nearest(width, multiple),
        "height": _nearest(height, multiple),
        "size_multiple": multiple,
        "min_size": _nearest(min(width, height) / 2, multiple),
        "max_size": _nearest(max(width, height) * 2, multiple),
        "num_inference_steps": 2 if few_steps else 25,
        "max_steps": min(100, weights.pipeline.scheduler.config.num_train_timesteps),
        "guidance_scale": 0.0 if few_steps else 7.5,
        "negative_prompt": "",
        "scheduler": scheduler,
        "schedulers": tuple(dict.fromkeys([scheduler, *OFFERED])),
    }
    loaded = {"model": weights.model, "revision": weights.revision, "token_limit": weights.token_limit}
    return ModelCard.model_validate({**derived, **(wishes or {}), **loaded})


def _nearest(pixels: float, multiple: int) -> int:
    """The multiple nearest to so many pixels, at least one of it and at least 8 pixels."""
    return multiple * max(round(pixels / multiple), math.ceil(8 / multiple), 1)


def card_file(weights: Weights, settings: Settings) -> Path | None:
    """The card this replica was given: the one it was told of, else card.json beside the weights, if there is one."""
    beside = weights.folder / "card.json"
    return settings.model_card or (beside if beside.is_file() else None)


def read_card(weights: Weights, settings: Settings) -> ModelCard:
    """The card this replica works by: the file it was given, else a derived one.

    Raises UnsuitableModel where a file is missing, malformed, about other weights than the loaded ones, or promises
    what they cannot do.
    """
    file = card_file(weights, settings)
    try:
        card = ModelCard.model_validate_json(file.read_bytes()) if file else derive_card(weights)
    except (OSError, ValueError) as error:
        raise UnsuitableModel(f"The model card {file} cannot be used: {error}") from error
    if (card.model, card.revision) != (weights.model, weights.revision):
        raise UnsuitableModel(
            f"The model card {file} is for {card.model} at {card.revision}, and loaded is {weights.model} at "
            f"{weights.revision}. `momalisa-model card` prints a card for what is loaded."
        )
    unknown = set(card.schedulers) - set(SCHEDULERS)
    if unknown:
        raise UnsuitableModel(
            f"The model card {file} offers {', '.join(sorted(unknown))}; known: {', '.join(SCHEDULERS)}."
        )
    if card.size_multiple % weights.vae_scale_factor:
        raise UnsuitableModel(f"The model card {file} needs a size_multiple that {weights.vae_scale_factor} divides.")
    return card.model_copy(update={"micro_batch": settings.micro_batch or card.micro_batch})


def made_of(weights: Weights, micro_batch: int) -> dict[str, str | int]:
    """What decides pixels beside the recipe."""
    on_cpu = weights.device.type == "cpu"
    return {
        "weights": weights.revision,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "pillow": PIL.__version__,  # packs the PNGs, whose bytes are promised to be equal
        "device": weights.device.type,
        "dtype": str(weights.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads() if on_cpu else 0,
        "micro_batch": micro_batch,
        "processor": _processor() if on_cpu else _accelerator(weights.device),
    }


def fingerprint(parts: dict[str, Any]) -> str:
    """16 hexadecimal digits: the start of the SHA-256 of the parts as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def _accelerator(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} CUDA {torch.version.cuda}"
    return platform.machine()
