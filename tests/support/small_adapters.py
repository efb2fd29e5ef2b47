"""Small adapters with random weights, in the files that people have: LoRAs by peft, and textual inversions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from tests.support.small_families import WIDTH, small_family

ATTENTION, ENCODER = ("to_q", "to_v"), ("q_proj", "out_proj")


def save_lora(file: Path, family: str, parts: Sequence[str], seed: int = 1, **more: Tensor) -> dict[str, Tensor]:
    """A LoRA for these parts of a family's small model, as diffusers saves one. more: further tensors, by key.

    Returns what is in the file.
    """
    pipeline, tensors = small_family(family), dict(more)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for part in parts:
            network = getattr(pipeline, part)
            targets = list(ENCODER if part.startswith("text_encoder") else ATTENTION)
            network.add_adapter(LoraConfig(r=3, lora_alpha=3, target_modules=targets), adapter_name="small")
            for name, value in get_peft_model_state_dict(network, adapter_name="small").items():
                tensors[f"{part}.{name}"] = torch.randn(value.shape) / 2
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file)
    return tensors


def save_as_kohya(file: Path, lora: Mapping[str, Tensor], alpha: float) -> None:
    """The same LoRA in the format of kohya-ss/sd-scripts, the usual one for UNets: flat names, and a scale."""
    encoders = {"text_encoder_2": "lora_te2", "text_encoder": "lora_te1", "unet": "lora_unet"}
    if not any(name.startswith("text_encoder_2") for name in lora):
        encoders["text_encoder"] = "lora_te"
    tensors = {}
    for name, value in lora.items():
        part, _, rest = name.partition(".")
        layer, half, _ = rest.rsplit(".", 2)
        inner = layer if part == "unet" else f"text_model.{layer.removeprefix('text_model.')}"
        key = f"{encoders[part]}_{inner.replace('.', '_')}"
        tensors[f"{key}.{'lora_down' if half == 'lora_A' else 'lora_up'}.weight"] = value
        tensors[f"{key}.alpha"] = torch.tensor(alpha)
    save_file(tensors, file)


def save_inversion(
    file: Path, vectors: int, keys: Sequence[str], seed: int = 1, width: int = WIDTH
) -> dict[str, Tensor]:
    """A textual inversion of so many vectors under each of these keys. Returns what is in the file."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tensors = {key: torch.randn(vectors, width) for key in keys}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file)
    return tensors


def save_vae(folder: Path, tiny: bool, channels: int = 4, **more: Any) -> Path:
    """A VAE for the small UNet families: with 2 pixels per latent, or one like TAESD."""
    widths: Mapping[str, Any] = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    blocks: Mapping[str, Any] = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    levels: Mapping[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    with torch.random.fork_rng():
        torch.manual_seed(5)
        vae = (
            AutoencoderTiny(latent_channels=channels, **widths, **blocks)
            if tiny
            else AutoencoderKL(latent_channels=channels, block_out_channels=(8, 8), norm_num_groups=4, **levels)
        )
    vae.save_pretrained(folder, safe_serialization=True, **more)
    return folder
