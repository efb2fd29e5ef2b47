"""Masks as COCO's compressed run lengths, and all instances of a picture as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

if TYPE_CHECKING:
    from momalisa_model.engines.instances_masks import FoundInstance


class Rle(TypedDict):
    """size: height and width; counts: the compressed run lengths, column by column."""

    size: list[int]
    counts: str


def encoded(mask: NDArray[np.uint8]) -> Rle:
    """A mask (height, width) of zeros and ones in COCO's form."""
    rle = coco.encode(np.asfortranarray(mask))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decoded(rle: Rle) -> NDArray[np.uint8]:
    """The mask of run lengths, (height, width), zeros and ones."""
    mask: NDArray[np.uint8] = coco.decode({"size": rle["size"], "counts": rle["counts"].encode("ascii")})
    return np.ascontiguousarray(mask)


def instances_json(width: int, height: int, instances: Sequence[FoundInstance]) -> bytes:
    """The instances of a picture of width x height as JSON, with the field names of COCO's annotations."""
    described = [
        {
            "label": one.label,
            "score": round(one.score, 4),
            "box": list(one.box),
            "area": one.area,
            "segmentation": one.mask,
        }
        for one in instances
    ]
    return json.dumps({"width": width, "height": height, "instances": described}).encode()
