"""The safety checker of a model: it looks at finished pictures and marks some. It changes no picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from torch import Tensor

# Not CLIPImageProcessor, which is another class if torchvision is installed.
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
    """Equal pictures get equal marks: it computes in float32 on every device, and Pillow scales the pictures."""

    network: Any  # StableDiffusionSafetyChecker
    extractor: Any  # CLIPImageProcessorPil

    @torch.inference_mode()
    def marks(self, pictures: Tensor) -> list[bool]:
        """Whether the checker objects to each picture.

        pictures: (frames, height, width, 3) uint8 on the CPU; they are not changed. The last bits of the scores can
        depend on the number of pictures, so always pass the same number.
        """
        images = [Image.fromarray(picture.numpy()) for picture in pictures]
        features = self.extractor(images, return_tensors="pt").pixel_values.to(self.network.device)
        # The network fills images that it objects to with zeros: it gets dummies.
        _, marked = self.network(clip_input=features, images=torch.zeros(len(images)))
        return [bool(mark) for mark in marked]


def has_safety_checker(index: dict[str, Any]) -> bool:
    """Whether a model_index.json names a safety checker."""
    return index.get("safety_checker") not in (None, [None, None])


def load_safety_checker(folder: Path, model: str, device: torch.device) -> SafetyChecker:
    """The safety checker in a folder in diffusers format, from safetensors only.

    Raises UnsuitableModel if a part is missing: transformers would fill a missing layer with random numbers, and
    a missing checker would go unnoticed.
    """
    try:
        network, report = StableDiffusionSafetyChecker.from_pretrained(
            folder / "safety_checker",
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        extractor = CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor", local_files_only=True)
        if report["missing_keys"]:
            raise ValueError(f"the safety checker's weights lack {sorted(report['missing_keys'])}")
    except Exception as error:  # a broken file makes the library raise errors of any type
        raise UnsuitableModel(
            f"{model} names a safety checker that could not be loaded from safetensors; the replica's log has the "
            "details. Complete the model's files, or set safety_checker to [null, null] in its model_index.json to "
            "run without a checker."
        ) from error
    structlog.get_logger().info("safety checker loaded", model=model)
    return SafetyChecker(network.to(device), extractor)
