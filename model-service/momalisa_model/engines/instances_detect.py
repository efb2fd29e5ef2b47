"""Finds instances with a network of transformers: RF-DETR-Seg, or Mask2Former with instances. Draws nothing.

The network's picture has the size that its preprocessor_config.json says, whatever size the picture has. Of its answer,
masks stay as small as the network made them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from momalisa_model.engines.instances_masks import Candidate
from momalisa_model.problems import NotANumber, UnsuitableModel

# ImageNet's, as the image processors of both families have them.
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_SPREAD: Final = (0.229, 0.224, 0.225)
# Both families' image processors have these without a preprocessor_config.json.
USUAL_SHORTEST_EDGE, USUAL_LONGEST_EDGE = 800, 1333
# The coarsest level of a backbone that is a pyramid.
PYRAMID_MULTIPLE: Final = 32
LARGEST_INPUT: Final = 2048
BOTH_SIDES: Final = frozenset({"height", "width"})
EDGES: Final = frozenset({"shortest_edge", "longest_edge"})


@dataclass(frozen=True)
class Input:
    """How a picture becomes the network's input. size: as in preprocessor_config.json; multiple: of both sides."""

    size: Mapping[str, int]
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    multiple: int

    @classmethod
    def of(cls, config: Mapping[str, Any], multiple: int) -> Input:
        """From the fields of a preprocessor_config.json. Raises UnsuitableModel if they are not usable."""
        size = config.get("size") or {"shortest_edge": USUAL_SHORTEST_EDGE, "longest_edge": USUAL_LONGEST_EDGE}
        size = {"height": size, "width": size} if isinstance(size, int) else size
        mean, spread = config.get("image_mean") or IMAGENET_MEAN, config.get("image_std") or IMAGENET_SPREAD
        if not _is_usable(size) or not len(mean) == len(spread) == 3:
            raise UnsuitableModel(
                "The preprocessor_config.json of the model has no usable size, image_mean and image_std. The size "
                f"needs height and width, or shortest_edge and longest_edge, of 1 to {LARGEST_INPUT} pixels."
            )
        return cls(size, tuple(mean), tuple(spread), multiple)

    def sides(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the network's picture for a picture of width x height, in pixels."""
        if self.size.keys() >= BOTH_SIDES:
            wanted: tuple[float, float] = (self.size["width"], self.size["height"])
        else:
            longest = self.size.get("longest_edge", LARGEST_INPUT)
            factor = longest / max(width, height)
            if shortest := self.size.get("shortest_edge"):
                factor = min(factor, shortest / min(width, height))
            wanted = (width * factor, height * factor)
        across, down = (max(1, int(side / self.multiple)) * self.multiple for side in wanted)
        return across, down

    def tensor(self, picture: NDArray[np.uint8]) -> Tensor:
        """A picture (height, width, 3) as the network gets it, (1, 3, height, width) float32.

        It is scaled to multiples instead of padded, so that the whole answer is about the picture.
        """
        sides = self.sides(picture.shape[1], picture.shape[0])
        shrinks = sides[0] * sides[1] < picture.shape[0] * picture.shape[1]
        small = cv2.resize(picture, sides, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        scaled = (small.astype(np.float32) / 255 - np.array(self.mean, np.float32)) / np.array(self.spread, np.float32)
        return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)[None]))


def _is_usable(size: Any) -> bool:
    """Whether both sides are given, or at least one edge, within the limit."""
    if not isinstance(size, Mapping):
        return False
    names = BOTH_SIDES if BOTH_SIDES & size.keys() else EDGES & size.keys()
    return bool(names) and all(isinstance(size.get(one), int) and 0 < size[one] <= LARGEST_INPUT for one in names)


@dataclass(frozen=True)
class Detector:
    """A network on its device, and how pictures get into it."""

    network: Any  # RfDetrForInstanceSegmentation or Mask2FormerForUniversalSegmentation
    input: Input

    @torch.inference_mode()
    def candidates(self, picture: NDArray[np.uint8]) -> list[Candidate]:
        """Everything that the network answers for a picture (height, width, 3), with any score."""
        weight = next(self.network.parameters())
        answer = self.network(self.input.tensor(picture).to(weight.device, weight.dtype))
        found = _of_mask2former if hasattr(answer, "masks_queries_logits") else _of_rf_detr
        names = self.network.config.id2label
        return [Candidate(str(names.get(label, label)), score, mask) for label, score, mask in found(answer)]


def _of_rf_detr(answer: Any) -> Iterator[tuple[int, float, NDArray[np.float32]]]:
    """Label, score and mask of each query: that of its best class, as it can be one object only."""
    scores, labels = _finite(answer.logits[0]).sigmoid().max(-1)
    for score, label, mask in zip(scores.tolist(), labels.tolist(), answer.pred_masks[0], strict=True):
        yield label, score, _finite(mask).cpu().numpy()


def _of_mask2former(answer: Any) -> Iterator[tuple[int, float, NDArray[np.float32]]]:
    """Label, score and mask of each query. The score is that of the class, times how sure the mask is of its pixels.

    Source: B. Cheng et al., Masked-attention Mask Transformer for Universal Image Segmentation, 2022, appendix.
    """
    scores, labels = _finite(answer.class_queries_logits[0]).softmax(-1)[:, :-1].max(-1)
    for score, label, mask in zip(scores.tolist(), labels.tolist(), answer.masks_queries_logits[0], strict=True):
        logits = _finite(mask)
        inside = logits > 0
        sure = float(logits.sigmoid()[inside].mean()) if inside.any() else 0.0
        yield label, score * sure, logits.cpu().numpy()


def _finite(numbers: Tensor) -> Tensor:
    """The numbers in float32. Raises NotANumber if one is none."""
    if not torch.isfinite(numbers).all():
        raise NotANumber("Numbers overflowed in the network that finds instances. Check its weights.")
    return numbers.float()


def input_multiple(network: Any) -> int:
    """What both sides of the network's input must be multiples of, in pixels."""
    backbone = network.config.backbone_config
    return int(backbone.patch_size * backbone.num_windows) if hasattr(backbone, "num_windows") else PYRAMID_MULTIPLE
