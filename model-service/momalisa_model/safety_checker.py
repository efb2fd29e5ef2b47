"""The safety checker that came with a model: it looks at finished pictures and marks some. It paints over none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from torch import Tensor

# By its own name: what CLIPImageProcessor is depends on whether torchvision is installed.
from transformers import CLIPImageProcessorPil

from momalisa_model.problems import UnsuitableModel

SAFETY_CHECKER_PARTS = {
    "safety_checker": ("stable_diffusion", ["StableDiffusionSafetyChecker"]),
    "feature_extractor": (
        "transformers",
        ["CLIPImageProcessor", "CLIPImageProcessorPil", "CLIPImageProcessorFast", "CLIPFeatureExtractor"],
    ),
}


@dataclass(frozen=True)
class SafetyChecker:
    """What sees to it that equal pictures get equal marks: float32 on every device, images scaled by Pillow."""

    network: Any  # StableDiffusionSafetyChecker
    extractor: Any  # CLIPImageProcessorPil

    @torch.inference_mode()
    def marks(self, pictures: Tensor) -> list[bool]:
        """Whether the checker objects, picture by picture: (frames, height, width, 3) uint8 on the CPU, left as it is.

        Its verdict can depend on the batch's size in the last bits: always ask with the same.
        """
        images = [Image.fromarray(picture.numpy()) for picture in pictures]
        seen = self.extractor(images, return_tensors="pt").pixel_values.to(self.network.device)
        # What it objects to it fills with zeros: it is given something else to fill.
        _, marked = self.network(clip_input=seen, images=torch.zeros(len(images)))
        return [bool(mark) for mark in marked]


def has_safety_checker(index: dict[str, Any]) -> bool:
    """Whether a model_index.json has a safety checker."""
    return index.get("safety_checker") not in (None, [None, None])


def load_safety_checker(folder: Path, model: str, device: torch.device) -> SafetyChecker:
    """The checker in a folder in diffusers format, from safetensors only.

    Raises UnsuitableModel where it is not there whole: a network with a layer missing would be filled up with random
    numbers, and one that is left out would be missed by nobody.
    """
    try:
        network, read = StableDiffusionSafetyChecker.from_pretrained(
            folder / "safety_checker",
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        extractor = CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor", local_files_only=True)
        if read["missing_keys"]:
            raise ValueError(f"the safety checker's weights lack {sorted(read['missing_keys'])}")
    except Exception as error:  # what a broken file makes a library raise is anything
        raise UnsuitableModel(
            f"{model} names a safety checker that could not be loaded from safetensors; the replica's log says why. "
            "Complete it; or, to go without, set safety_checker to [null, null] in the folder's model_index.json."
        ) from error
    structlog.get_logger().info("safety checker kept", model=model)
    return SafetyChecker(network.to(device), extractor)
