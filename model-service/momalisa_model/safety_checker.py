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

from momalisa_model.networks import load_network
from momalisa_model.problems import UnsuitableModel


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


def load_safety_checker(folder: Path, model: str, variant: str | None, device: torch.device) -> SafetyChecker:
    """The safety checker in a folder in diffusers format, from safetensors only.

    Raises UnsuitableModel if a part is missing or incomplete: a missing checker would go unnoticed.
    """
    try:
        part = f"The safety_checker of {model}"
        network = load_network(StableDiffusionSafetyChecker, folder / "safety_checker", part, torch.float32, variant)
        extractor = CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor", local_files_only=True)
    except Exception as error:  # a broken file makes the library raise errors of any type
        reason = f" {error}" if isinstance(error, UnsuitableModel) else " The replica's log has the details."
        raise UnsuitableModel(
            f"{model} names a safety checker that could not be loaded.{reason} Complete the model's files, or set "
            "safety_checker to [null, null] in its model_index.json to run without a checker."
        ) from error
    structlog.get_logger().info("safety checker loaded", model=model)
    return SafetyChecker(network.to(device), extractor)
