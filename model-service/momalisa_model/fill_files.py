"""The files of a diffusion model that paints what a camera uncovers: finds and downloads them. Loads none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from momalisa_model.families import FAMILIES, Family
from momalisa_model.fetched import origin_of
from momalisa_model.hub import Report
from momalisa_model.model_files import ModelFiles, Use, find_files
from momalisa_model.problems import UnsuitableModel
from momalisa_model.sources import parse_source


def class_that_fills(kind: object, model: str) -> str:
    """The key of FAMILIES for the class in the index of a model, or in that of one which was trained to inpaint.

    Raises UnsuitableModel if diffusers cannot inpaint with models of this family.
    """
    # Imports all pipelines of these families.
    from diffusers.pipelines.auto_pipeline import AUTO_INPAINT_PIPELINES_MAPPING

    inpainting = {found.__name__ for found in AUTO_INPAINT_PIPELINES_MAPPING.values()}
    name = str(kind).replace("InpaintPipeline", "Pipeline")
    fitting = {name: one for name, one in FAMILIES.items() if name.replace("Pipeline", "InpaintPipeline") in inpainting}
    if name in fitting:
        return name
    known = ", ".join(family.name for family in fitting.values())
    raise UnsuitableModel(
        f"{model} in fill_model is a {kind}, which cannot inpaint. Use a model of one of these families: {known}."
    )


# Of the picture that a person sees, a checker has nothing to say: it is their own.
FILLS = Use("fill_model", class_that_fills, checked=False)


def find_filling(setting: str, dtype_for: Callable[[Family], torch.dtype], report: Report) -> ModelFiles:
    """The files of the model in `fill_model`, as find_files finds them. Raises UnsuitableModel and DownloadFailed."""
    source = parse_source(setting)
    files = find_files(source.place, source.revision, dtype_for, report, use=FILLS)
    origin = origin_of(files.folder)
    return replace(files, model=origin[0]) if origin else files
