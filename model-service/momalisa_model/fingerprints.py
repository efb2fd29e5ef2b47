"""Fingerprints: what decides the bytes of a frame beside its recipe, as a table and as a hash. No tensors."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import diffusers
import torch
import transformers

from momalisa_model.weights import Weights
from momalisa_model.wire import DeviceOptions

NO_OPTIONS = DeviceOptions()


def made_of_any(revision: str, device: torch.device, micro_batch: int, *libraries: ModuleType) -> dict[str, str | int]:
    """What decides the bytes of a frame with any engine, beside the recipe.

    revision: of the weights. libraries: the modules that compute, whose versions count.
    """
    on_cpu = device.type == "cpu"
    return {
        "weights": revision,
        **{library.__name__: library.__version__ for library in libraries},
        "zlib": zlib.ZLIB_RUNTIME_VERSION,  # compresses the PNGs
        "device": device.type,
        "threads": torch.get_num_threads() if on_cpu else 0,
        "micro_batch": micro_batch,
        "processor": _processor() if on_cpu else _accelerator(device),
    }


def made_of(
    weights: Weights, micro_batch: int, options: DeviceOptions = NO_OPTIONS, prompt_chunks: int = 1
) -> dict[str, str | int]:
    """Everything except the recipe that decides the bytes of a frame of a diffusion model."""
    return {
        **made_of_any(weights.revision, weights.device, micro_batch, torch, diffusers, transformers),
        "dtype": str(weights.dtype).removeprefix("torch."),
        **_variants(weights),
        **_fused_on(weights),
        **_options(options),
        **({"prompt_chunks": prompt_chunks} if prompt_chunks > 1 else {}),
    }


def _variants(weights: Weights) -> dict[str, str]:
    """Which variant each network was loaded from, if any has one: a variant may hold other numbers."""
    used = [f"{part} {variant}" for part, variant in sorted(weights.variants.items()) if variant]
    return {"variants": ", ".join(used)} if used else {}


def _fused_on(weights: Weights) -> dict[str, str]:
    """The processor that has added LoRAs to the weights, unless it also renders: it decides their last bits."""
    fused = any(one.weight for one in weights.additions.adapters)
    return {"fused_on": _processor()} if fused and weights.device.type != "cpu" else {}


def _options(options: DeviceOptions) -> dict[str, str]:
    """The options that are not at their default, if any: they may change the last bits."""
    on = [
        name if value is True else f"{name} {value}"
        for name, value in options.model_dump(exclude_defaults=True).items()
    ]
    return {"options": ", ".join(sorted(on))} if on else {}


def fingerprint(parts: dict[str, Any]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the parts, as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    # Another mode of MKL than the usual one computes other last bits.
    mode = os.environ["MKL_CBWR"]
    mkl = "" if mode == "AUTO" else f" MKL_CBWR={mode}"
    return f"{names[0] if names else platform.machine()} {torch.backends.cpu.get_cpu_capability()}{mkl}"


def _accelerator(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} CUDA {torch.version.cuda}"
    return platform.machine()
