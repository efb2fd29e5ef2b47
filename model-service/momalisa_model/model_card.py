"""The card a replica works by, and the fingerprint of what it renders with: read from files and weights, no tensors."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import diffusers
import PIL
import structlog
import torch
import transformers
from pydantic import ValidationError

from momalisa_model.problems import UnsuitableModel
from momalisa_model.schedulers import OFFERED, SCHEDULERS, name_of
from momalisa_model.settings import Settings
from momalisa_model.weights import Weights
from momalisa_model.wire import ModelCard

log = structlog.get_logger()


def derive_card(weights: Weights, overrides: Mapping[str, Any] | None = None) -> ModelCard:
    """A card for weights that came without one: sizes and limits as loaded, the customary steps and guidance.

    overrides: fields that somebody chose; all but what only the weights can say are taken from there. Raises
    UnsuitableModel where there is no such card.
    """
    unet = weights.pipeline.unet.config
    size = unet.sample_size if isinstance(unet.sample_size, (list, tuple)) else [unet.sample_size] * 2
    height, width = (int(side) * weights.vae_scale_factor for side in size)
    # Latents that halve evenly down to the UNet's lowest level: nothing is cropped or resized on the way up.
    multiple = weights.vae_scale_factor * 2 ** (len(unet.block_out_channels) - 1)
    few_steps = "turbo" in weights.model.lower()
    if few_steps:
        log.warning("taken for a Turbo model, by its name alone: a model card makes sure", model=weights.model)
    derived = {
        "micro_batch": 8 if weights.device.type == "cuda" else 4,
        "width": _nearest(width, multiple),
        "height": _nearest(height, multiple),
        "size_multiple": multiple,
        "min_size": _nearest(min(width, height) / 2, multiple),
        "max_size": _nearest(max(width, height) * 2, multiple),
        "num_inference_steps": 2 if few_steps else 25,
        "max_steps": min(100, weights.train_timesteps),
        "guidance_scale": 0.0 if few_steps else 7.5,
        "negative_prompt": "",
        "model": weights.model,
    }
    scheduler = _own_scheduler(weights)
    derived |= {"scheduler": scheduler, "schedulers": list(dict.fromkeys([scheduler, *OFFERED]))}
    loaded = {"revision": weights.revision, "token_limit": weights.token_limit}
    return _card_from(json.dumps({**derived, **(overrides or {}), **loaded}))


def _own_scheduler(weights: Weights) -> str:
    """The card's name for the scheduler that the weights came with, or for what stands in for one that draws noise."""
    own = weights.pipeline.scheduler
    if name := name_of(own):
        if str(own.config.get("algorithm_type")).startswith("sde-"):
            log.warning("the model's own scheduler draws noise; walked without", scheduler=name)
        return name
    log.warning("the model's own scheduler is not walked with", own=type(own).__name__, instead="Euler")
    return "Euler"


def _nearest(pixels: float, multiple: int) -> int:
    """The multiple nearest to so many pixels, at least one of it and at least 8 pixels."""
    return multiple * max(round(pixels / multiple), math.ceil(8 / multiple), 1)


def card_file(weights: Weights, settings: Settings) -> Path | None:
    """The card this replica was given: the one it was told of, else card.json beside the weights, if there is one."""
    beside = weights.folder / "card.json"
    return settings.model_card or (beside if beside.is_file() else None)


def read_card(weights: Weights, settings: Settings) -> ModelCard:
    """The card this replica works by: the file it was given, else a derived one.

    Its `model` is the name that this model goes by; the revision is what says that it is this one. Raises
    UnsuitableModel where a file is missing, malformed, about other weights than the loaded ones, or promises what
    they cannot do. The log names the file, problems do not: they are told over HTTP.
    """
    file = card_file(weights, settings)
    log.info("model card", file=str(file) if file else "derived")
    if file is None:
        return derive_card(weights)
    card = _card_from(_text_of(file))
    for wrong in _broken_promises(card, weights):
        raise UnsuitableModel(f"The model card {wrong}. `momalisa-model card` prints one for what is loaded.")
    return card


def read_overrides(file: Path) -> dict[str, Any]:
    """A card file that may lack fields. Raises UnsuitableModel where it is no JSON object."""
    try:
        return dict(json.loads(_text_of(file)))
    except (ValueError, TypeError) as error:
        raise UnsuitableModel("The model card is no JSON object.") from error


def _text_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UnsuitableModel(f"The model card cannot be read ({error.strerror}); see MOMALISA_MODEL_CARD.") from error


def _card_from(text: str | bytes) -> ModelCard:
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in wrong["loc"]) or "all"
        raise UnsuitableModel(f"The model card cannot be used: {where}: {wrong['msg']}.") from error


def _broken_promises(card: ModelCard, weights: Weights) -> Iterator[str]:
    """What a card says that is not so with these weights."""
    if card.revision != weights.revision:
        yield f"is for {card.model} at {card.revision}, and loaded is {weights.model} at {weights.revision}"
    if unknown := set(card.schedulers) - set(SCHEDULERS):
        yield f"offers the schedulers {', '.join(sorted(unknown))}; known are {', '.join(SCHEDULERS)}"
    if card.size_multiple % weights.vae_scale_factor:
        yield f"has a size_multiple that {weights.vae_scale_factor} does not divide"
    if card.token_limit != weights.token_limit:
        yield f"has a token_limit of {card.token_limit}, and the encoder's is {weights.token_limit}"
    if card.max_steps > weights.train_timesteps:
        yield f"has max_steps of {card.max_steps}, and the scheduler knows {weights.train_timesteps}"


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
