"""Encodes the prompts of a leg, each alone, and reports what the text encoder cut off."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from threading import Lock

import torch
from torch import Tensor

from momalisa_model.weights import Weights
from momalisa_model.wire import Recipe, Truncated

KEPT_PROMPTS = 32


@dataclass(frozen=True)
class Leg:
    """The embeddings of a leg's three prompts, (tokens, width) each, on the CPU, and a warning for each cut prompt."""

    start: Tensor
    end: Tensor
    negative: Tensor
    truncated: tuple[Truncated, ...]


class PromptEncoder:
    """Encodes prompts, each alone, so that one cannot change another's embedding. Keeps the last ones' embeddings."""

    def __init__(self, weights: Weights) -> None:
        self._encode = lru_cache(KEPT_PROMPTS)(partial(_encode, weights))
        # A tokenizer must not be used by two threads at once.
        self._lock = Lock()

    def leg(self, recipe: Recipe) -> Leg:
        """Encode start, end and negative prompt of a recipe. Safe to call in any thread."""
        prompts = {"start": recipe.start, "end": recipe.end, "negative_prompt": recipe.negative_prompt}
        with self._lock:
            encoded = {name: self._encode(prompt) for name, prompt in prompts.items()}
        start, end, negative = (embeds for embeds, _ in encoded.values())
        warnings = (cut and Truncated(prompt=name, **cut) for name, (_, cut) in encoded.items())
        return Leg(start, end, negative, tuple(warning for warning in warnings if warning))


def _encode(weights: Weights, prompt: str) -> tuple[Tensor, dict[str, str] | None]:
    """(tokens, width) on the CPU, and what to warn of if the prompt was longer than the encoder's limit."""
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
    return embeds, {"truncated": truncated, "detail": detail}
