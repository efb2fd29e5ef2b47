"""From a leg's prompts to their embeddings, each encoded alone, and what of them the text encoder cannot hear."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from momalisa_model.weights import Weights
from momalisa_model.wire import Recipe, Truncated


@dataclass(frozen=True)
class Leg:
    """What two prompts and a negative one became: (tokens, width) each, on the CPU; and what was cut off."""

    start: Tensor
    end: Tensor
    negative: Tensor
    truncated: tuple[Truncated, ...]


def encode_leg(weights: Weights, recipe: Recipe) -> Leg:
    """The leg as the text encoder hears it; alone, so that one prompt's neighbours do not matter."""
    prompts = {"start": recipe.start, "end": recipe.end, "negative_prompt": recipe.negative_prompt}
    heard = {name: _encode(weights, name, prompt) for name, prompt in prompts.items()}
    start, end, negative = (embeds for embeds, _ in heard.values())
    return Leg(start, end, negative, tuple(warning for _, warning in heard.values() if warning))


def _encode(weights: Weights, name: str, prompt: str) -> tuple[Tensor, Truncated | None]:
    """(tokens, width) on the CPU, and a warning where the encoder's limit cut the prompt."""
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
    detail = f"The model hears {limit - 2} tokens of a prompt; this one has {len(whole) - 2}. Shorten it."
    return embeds, Truncated(prompt=name, truncated=truncated, detail=detail)
