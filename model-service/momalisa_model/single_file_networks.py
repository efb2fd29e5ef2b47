"""Loads the networks of a single file: under its own names of tensors, and with their configurations from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from diffusers.loaders.single_file_utils import (
    create_diffusers_clip_model_from_ldm,
    create_diffusers_t5_model_from_checkpoint,
)

from momalisa_model.model_files import ModelFiles
from momalisa_model.networks import listed
from momalisa_model.problems import UnsuitableModel


def load_inside(
    kind: Any, checkpoint: Mapping[str, torch.Tensor], files: ModelFiles, part: str, dtype: torch.dtype
) -> Any:
    """A network from the tensors of a single file, in evaluation mode.

    kind: its class. Raises UnsuitableModel if it does not fit its configuration, or if the file lacks some of it.
    """
    where = {"config": str(files.folder), "subfolder": part, "local_files_only": True, "torch_dtype": dtype}
    try:
        if part == files.family.denoiser or part == "vae":
            tensors, missing = _converted(kind, checkpoint, files.folder, part)
            network = None if missing else kind.from_single_file(tensors, **where)
        else:
            is_t5 = kind.__name__ == "T5EncoderModel"
            create = create_diffusers_t5_model_from_checkpoint if is_t5 else create_diffusers_clip_model_from_ldm
            network = create(kind, checkpoint=checkpoint, **where)
            missing = {key for key, tensor in network.state_dict().items() if tensor.is_meta}
    except Exception as error:  # tensors of other shapes make the libraries raise errors of any type
        raise UnsuitableModel(
            f"The {part} in {files.model} does not fit its configuration. Set MODEL_CONFIG to a model of its family."
        ) from error
    if missing:
        raise UnsuitableModel(
            f"The {part} in {files.model} lacks {listed(missing)}. The file must be complete, and MODEL_CONFIG must be "
            "a model of its family."
        )
    return network


def _converted(
    kind: Any, checkpoint: Mapping[str, torch.Tensor], folder: Path, part: str
) -> tuple[dict[str, torch.Tensor], set[str]]:
    """The tensors under the names of diffusers, and those that are missing."""
    config = kind.load_config(folder, subfolder=part, local_files_only=True)
    with torch.device("meta"):
        wanted = set(kind.from_config(config).state_dict())
    convert = next(
        mapping["checkpoint_mapping_fn"]
        for name, mapping in SINGLE_FILE_LOADABLE_CLASSES.items()
        if issubclass(kind, getattr(diffusers, name))
    )
    given = checkpoint if wanted <= checkpoint.keys() else convert(checkpoint=dict(checkpoint), config=config)
    tensors = {key: given[key] for key in wanted if given.get(key) is not None}
    return tensors, wanted - tensors.keys()
