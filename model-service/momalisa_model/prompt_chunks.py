"""Prompts that are longer than CLIP reads: chunks of so many tokens, each encoded by the stock pipeline alone.

Only for the families whose text encoders are CLIPs, whose embeddings of chunks can be put one after another.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from momalisa_model.weights import Weights


def token_limit(weights: Weights, chunks: int) -> int:
    """Tokens of a prompt that so many chunks hold, one begin and one end token included."""
    return weights.token_limit + (chunks - 1) * _room(weights)


def chunks_needed(weights: Weights, prompts: Sequence[str], most: int) -> int:
    """The number of chunks for the longest of these prompts, from 1 to `most`."""
    if most == 1:
        return 1
    longest = max(len(_tokens(weights.pipeline, weights.tokenizer, prompt)) for prompt in prompts)
    return min(max(1, -(-longest // _room(weights))), most)


def pipelines_for_chunks(pipeline: Any, chunks: int) -> list[Any]:
    """For each chunk a copy of the pipeline that encodes this chunk of a prompt; for a single one, the pipeline."""
    if chunks == 1:
        return [pipeline]
    return [_with_tokenizers_for(pipeline, chunk) for chunk in range(chunks)]


def _with_tokenizers_for(pipeline: Any, chunk: int) -> Any:
    changed = copy.copy(pipeline)
    for name in ("tokenizer", "tokenizer_2"):
        if getattr(pipeline, name, None) is not None:
            setattr(changed, name, _OneChunk(getattr(pipeline, name), chunk))
    return changed


class _OneChunk:
    """A tokenizer that returns one chunk of a prompt's tokens between a begin and an end token, padded to the limit."""

    def __init__(self, stock: Any, chunk: int) -> None:
        self._stock, self._chunk = stock, chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stock, name)

    def __call__(self, prompts: str | list[str], **_: object) -> Any:
        """input_ids and attention_mask (prompts, limit) of torch."""
        rows = [self._row(prompt) for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
        limit = self._stock.model_max_length
        return self._stock.pad({"input_ids": rows}, padding="max_length", max_length=limit, return_tensors="pt")

    def _row(self, prompt: str) -> list[int]:
        begin, end = self._stock("").input_ids
        room = self._stock.model_max_length - 2
        tokens = self._stock(prompt, add_special_tokens=False).input_ids
        return [begin, *tokens[self._chunk * room : (self._chunk + 1) * room], end]


def _room(weights: Weights) -> int:
    """Tokens of a prompt in one chunk, without begin and end."""
    return weights.token_limit - 2


def _tokens(pipeline: Any, tokenizer: Any, prompt: str) -> list[int]:
    """The tokens of a prompt; that of a textual inversion stands for several."""
    return list(tokenizer(pipeline.maybe_convert_prompt(prompt, tokenizer), add_special_tokens=False).input_ids)
