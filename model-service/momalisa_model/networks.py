"""Loads one network of a model, and refuses it unless its weights and its configuration match. Renders nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from momalisa_model.problems import UnsuitableModel

NAMED = 3
# What a whole CLIP has beside its text encoder, and a whole language model beside the layers that are read.
UNUSED = re.compile(r"(vision_model|visual_projection|text_projection|lm_head)\.|logit_scale$")


def load_network(kind: Any, folder: Path, part: str, dtype: torch.dtype, variant: str | None) -> Any:
    """The network in a folder, from safetensors only, in evaluation mode.

    kind: a class of diffusers or transformers. part: the network as the beginning of a sentence. Raises UnsuitableModel
    if the weights lack a key or have an unknown one: the libraries would fill a missing layer with random numbers and
    ignore an unknown one.
    """
    try:
        network, report = kind.from_pretrained(
            folder,
            dtype=dtype,
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # a broken file makes the libraries raise errors of any type
        raise UnsuitableModel(
            f"{part} could not be loaded: its config.json or its weights in safetensors are damaged. The replica's log "
            "has the details."
        ) from error
    # A key that the index of a sharded file promises and no shard has: its tensor has a shape and no numbers.
    empty = [name for name, tensor in network.state_dict().items() if tensor.is_meta]
    missing = {*report["missing_keys"], *empty}
    unknown = {key for key in report["unexpected_keys"] if not UNUSED.match(key)}
    wrong = [f"lacks {listed(missing)}"] * bool(missing) + [f"has the unknown {listed(unknown)}"] * bool(unknown)
    if wrong:
        raise UnsuitableModel(
            f"{part} {' and '.join(wrong)}. Its weights and its config.json must be complete and of one model."
        )
    return network


def listed(keys: Iterable[str]) -> str:
    """The number of keys, and the first ones."""
    ordered = sorted(keys)
    more = f" and {len(ordered) - NAMED} more" * (len(ordered) > NAMED)
    return f"{'key' if len(ordered) == 1 else 'keys'} {', '.join(ordered[:NAMED])}{more}"
