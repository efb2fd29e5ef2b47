"""Encodes the prompts of a leg, each alone, and reports what the text encoder cut off."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from momalisa_model.weights import Weights
from momalisa_model.wire import Recipe, Truncated


@dataclass(frozen=True)
class Leg:
    """The embeddings of a leg's three prompts, (tokens, width) each, on the CPU, and a warning for each cut prompt."""

    start: Tensor
    end: Tensor
    negative: Tensor
    truncated: tuple[Truncated, ...]


def encode_leg(weights: Weights, recipe: Recipe) -> Leg:
    """Encode start, end and negative prompt; each alone, so that one prompt cannot change another's embedding."""
    prompts = {"start": recipe.start, "end": recipe.end, "negative_prompt": recipe.negative_prompt}
    encoded = {name: _encode(weights, name, prompt) for name, prompt in prompts.items()}
    start, end, negative = (embeds for embeds, _ in encoded.values())
    return Leg(start, end, negative, tuple(warning for _, warning in encoded.values() if warning))


def _encode(weights: Weights, name: str, prompt: str) -> tuple[Tensor, Truncated | None]:
    """(tokens, width) on the CPU, and a warning if the prompt was longer than the encoder's limit."""
    tokenizer, text_encoder = weights.pipeline.tokenizer, weights.pipeline.text_encoder
    limit = weights.token_limit
    tokens = tokenizer(prompt, padding="max_length", max_length=limit, truncation=True, return_tensors="pt")
    masked = getattr(text_encoder.config, "use_attention_mask", False)
    mask = tokens.attention_mask.to(weights.device) if masked else None
    with torch.inference_mode():
        embeds = text_encoder(tokens.input_ids.to(weights.device), attention_mask=mask)[0][0].cpu()
    whole = tokenizer(prompt).input_ids
    if len(whole) <= limit:
        return embeds, None
    truncated = tokenizer.decode(whole[limit - 1 : -1])
    detail = f"The model reads {limit - 2} tokens of a prompt; this one has {len(whole) - 2}. Shorten it."
    return embeds, Truncated(prompt=name, truncated=truncated, detail=detail)
