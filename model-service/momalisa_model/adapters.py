"""Puts adapters into a loaded pipeline: LoRAs into its weights, textual inversions into its vocabulary. Finds no files.

Afterwards, the pipeline is one like any other, without layers of peft, so that nothing else depends on adapters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import structlog
from safetensors.torch import load_file
from torch import nn

from momalisa_model.adapter_files import AdapterFile
from momalisa_model.families import FAMILIES
from momalisa_model.problems import UnsuitableModel

# What peft calls each LoRA while it is loaded; part of no other name in a network.
LOADED_AS = "momalisa_adapter"


def fuse_and_learn(pipeline: Any, adapters: Sequence[AdapterFile], model: str) -> None:
    """Add each LoRA to the weights of the pipeline, in memory, and each textual inversion to its vocabulary.

    Raises UnsuitableModel for one that does not fit as a whole.
    """
    for adapter in adapters:
        card = adapter.card
        try:
            refused = _fuse(pipeline, adapter) if card.token is None else _learn(pipeline, adapter, card.token)
        except Exception as error:  # a file for another model makes the libraries raise errors of any type
            raise _misfit(pipeline, adapter, model, "its weights have other names or shapes") from error
        if refused:
            raise _misfit(pipeline, adapter, model, refused)
        structlog.get_logger().info("adapter added", **card.model_dump())


def _misfit(pipeline: Any, adapter: AdapterFile, model: str, reason: str) -> UnsuitableModel:
    family = FAMILIES[type(pipeline).__name__].name
    return UnsuitableModel(
        f"{adapter.card.model} in MODEL_ADAPTERS does not fit {model}: {reason}. Use one that was made for a model of "
        f"the family {family}."
    )


def _fuse(pipeline: Any, adapter: AdapterFile) -> str:
    """Add a LoRA to the weights. Returns why it does not fit, or nothing."""
    if not hasattr(pipeline, "load_lora_weights"):
        return "LoRAs are not supported for this family"
    where = {"weight_name": adapter.path.name, "use_safetensors": True, "local_files_only": True}
    unet = getattr(pipeline, "unet", None)
    given = pipeline.lora_state_dict(adapter.path.parent, unet_config=unet.config if unet else None, **where)
    given = given[0] if isinstance(given, tuple) else given
    pipeline.load_lora_weights(adapter.path.parent, adapter_name=LOADED_AS, **where)
    parts = [part for part, names in pipeline.get_list_adapters().items() if LOADED_AS in names]
    if not parts:
        return "it has no weights for this model"
    # The libraries only log what they leave out, and fill what is missing with random numbers.
    if _numbers_in(given) != {part: _numbers_of(getattr(pipeline, part)) for part in parts}:
        return "parts of it belong to another model"
    pipeline.fuse_lora(parts, lora_scale=adapter.card.weight, safe_fusing=True, adapter_names=[LOADED_AS])
    pipeline.unload_lora_weights()
    return ""


def _numbers_in(tensors: dict[str, Any]) -> Counter[str]:
    """How many numbers a LoRA has for each part of a pipeline; not the scales, which are no weights of a layer."""
    numbers: Counter[str] = Counter()
    for name, tensor in tensors.items():
        if not name.endswith("alpha"):
            numbers[name.partition(".")[0]] += tensor.numel()
    return numbers


def _numbers_of(network: nn.Module) -> int:
    return sum(weights.numel() for name, weights in network.named_parameters() if LOADED_AS in name)


def _learn(pipeline: Any, adapter: AdapterFile, token: str) -> str:
    """Add a textual inversion to the vocabulary of each text encoder. Returns why it does not fit, or nothing."""
    if FAMILIES[type(pipeline).__name__].denoiser != "unet":
        return "textual inversions are not supported for this family"
    encoders = [("clip_l", pipeline.tokenizer, pipeline.text_encoder)]
    if hasattr(pipeline, "text_encoder_2"):
        encoders.append(("clip_g", pipeline.tokenizer_2, pipeline.text_encoder_2))
    vectors = load_file(adapter.path)
    if len(vectors) != len(encoders):
        return f"it is for {len(vectors)} text encoders, but this model has {len(encoders)}"
    for name, tokenizer, encoder in encoders:
        tensor = vectors[name] if len(encoders) > 1 else next(iter(vectors.values()))
        width = encoder.get_input_embeddings().embedding_dim
        if tensor.shape[-1] != width:
            return f"its vectors have {tensor.shape[-1]} numbers, but those of the text encoder have {width}"
        if token in tokenizer.get_vocab():
            return f'the vocabulary has "{token}" already, so rename the file or the token'
        pipeline.load_textual_inversion(tensor, token=token, tokenizer=tokenizer, text_encoder=encoder)
    return ""
