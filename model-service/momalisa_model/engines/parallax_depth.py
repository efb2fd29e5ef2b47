"""How near each pixel of a picture is, by a network for depth. Loads it too; edges are refined elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForDepthEstimation, DPTImageProcessorPil

from momalisa_model.engines.parallax_edges import Map
from momalisa_model.network_files import PROCESSOR_FILE
from momalisa_model.networks import load_network
from momalisa_model.problems import NotANumber, UnsuitableModel

INPUT_SIDE, INPUT_PATCH = 384, 32
# Image processors that keep a picture's shape look at its shorter side: a long one would need much memory.
LONGEST_SIDE: Final = 1024
# They leave not one patch of the shorter side of a picture that is much longer than this, against its shorter side.
LONGEST_SHAPE: Final = 16
# Networks of these types return metres, the others an inverse of them, unless their configuration says otherwise.
OF_METRES: Final = ("depth_pro", "glpn", "tipsv2_dpt", "zoedepth")
NEAREST_M: Final = 1e-3
# How many of the nearest and of the farthest pixels do not count, in percent.
OUTLIERS: Final = 1.0
FLAT: Final = 1e-6


@dataclass(frozen=True)
class DepthNetwork:
    """A network of AutoModelForDepthEstimation, and the image processor of its pictures."""

    network: Any
    processor: Any

    @torch.inference_mode()
    def nearness(self, picture: NDArray[np.uint8]) -> Map:
        """How near each pixel of a picture (h, w, 3) is, from 0, the farthest, to 1: as disparity.

        The map has the size of the network's answer. Raises NotANumber if some numbers are not finite.
        """
        image = Image.fromarray(picture)
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BICUBIC)
        if (least := max(image.size) // LONGEST_SHAPE) > min(image.size):
            image = image.resize((max(image.width, least), max(image.height, least)), Image.Resampling.BICUBIC)
        pixels = self.processor(images=image, return_tensors="pt", do_pad=False)["pixel_values"]
        depth = self.network(pixel_values=pixels.to(self.network.device)).predicted_depth[0].cpu().numpy()
        if not np.isfinite(depth).all():
            raise NotANumber("The network for depth returned invalid numbers. Use another model.")
        return normalised(1 / np.maximum(depth, NEAREST_M) if self._returns_metres else depth)

    @property
    def _returns_metres(self) -> bool:
        config = self.network.config
        if config.model_type == "dpt":
            # Only the heads of DINOv2 have a projection (dpt-dinov2-*-nyu and -kitti): they were trained on metres.
            return bool(config.add_projection)
        return config.model_type in OF_METRES or getattr(config, "depth_estimation_type", None) == "metric"


def normalised(disparity: Map) -> Map:
    """A map with values from 0 to 1, and few pixels outside of what these were; .5 everywhere if it is flat."""
    low, high = np.percentile(disparity, (OUTLIERS, 100 - OUTLIERS))
    if high - low < FLAT * max(abs(low), abs(high), FLAT):
        return np.full(disparity.shape, 0.5, np.float32)
    return np.asarray(((disparity - low) / (high - low)).clip(0, 1), np.float32)


def load_depth_network(folder: Path, device: torch.device) -> DepthNetwork:
    """The network in a folder of transformers' format, from safetensors only, in float32: it is small.

    Raises UnsuitableModel if its files do not belong together, or if no image processor here can read its settings.
    """
    network = load_network(AutoModelForDepthEstimation, folder, "The network for depth", torch.float32, None).to(device)
    return DepthNetwork(network, _processor(folder, network.config))


def _processor(folder: Path, config: Any) -> Any:
    """The image processor in the folder; without one, the usual one for a network of this configuration."""
    if (folder / PROCESSOR_FILE).is_file():
        try:
            return AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
        except Exception as error:  # a broken file makes the library raise errors of any type
            raise UnsuitableModel(
                f"The {PROCESSOR_FILE} of the network for depth is damaged, or needs torchvision, which is not "
                "installed. Use the files of another model."
            ) from error
    backbone = getattr(config, "backbone_config", None) or config
    side = getattr(backbone, "image_size", None) or INPUT_SIDE
    patch = getattr(backbone, "patch_size", None) or INPUT_PATCH
    return DPTImageProcessorPil(
        size={"height": side, "width": side}, ensure_multiple_of=patch, keep_aspect_ratio=True, do_pad=False
    )
