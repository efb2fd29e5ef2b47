"""Encodes the prompts of a leg, each alone, and reports what the text encoder cut off."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from momalisa_model.families import EMBEDS, MASK_OF_EMBEDS, is_guided, prefix_of
from momalisa_model.prompt_chunks import chunks_needed, pipelines_for_chunks, token_limit
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.weights import Weights
from momalisa_model.wire import Truncated

KEPT_PROMPTS = 32
Embeddings = Mapping[str, Tensor]
# Tokens to which prompts are filled, and what fills them: the first that is one token where it stands.
FILL_TO = 32
FILLERS = (" .", ".", ",", " ,", "~", " -", " *", "!", "'")


@dataclass(frozen=True)
class Leg:
    """A leg's prompts as arguments of the stock pipeline, without a batch dimension, on the CPU.

    start, end, negative: embeddings (tokens, width), pooled ones (width,) and masks (tokens,), by name; `negative` is
    empty without classifier-free guidance. warnings: one for each cut prompt.
    """

    start: Embeddings
    end: Embeddings
    negative: Embeddings
    warnings: tuple[Truncated, ...]


class PromptEncoder:
    """Encodes prompts, each alone, so that one cannot change another's embedding. Keeps the last ones' embeddings."""

    def __init__(self, weights: Weights, chunks: int = 1) -> None:
        """chunks: the most that a prompt is encoded in: see the card's prompt_chunks."""
        self._weights, self._chunks = weights, chunks
        self._encode = lru_cache(KEPT_PROMPTS)(partial(_encode, weights))
        self._negative = lru_cache(KEPT_PROMPTS)(partial(_encode_negative, weights))
        # A tokenizer must not be used by two threads at once.
        self._lock = Lock()

    def leg(self, recipe: BetweenRecipe) -> Leg:
        """Encode start, end and negative prompt of a recipe. Safe to call in any thread.

        Beside a prompt, a picture without one gets the same: with none, models paint something vague there.
        """
        prompts = {"start": recipe.start, "end": recipe.end, "negative_prompt": recipe.negative_prompt}
        if self._weights.tokens:
            # Only lower case finds all vectors of a token, and the tokenizers of these families convert all to it.
            prompts = {name: prompt.lower() for name, prompt in prompts.items()}
        stops = [prompts["start"], prompts["end"]]
        if not (recipe.start_picture and recipe.end_picture):
            stops = [stops[0] or stops[1], stops[1] or stops[0]]
        with self._lock:
            guided = is_guided(self._weights.pipeline, recipe.guidance_scale)
            chunks = chunks_needed(self._weights, list(prompts.values()) if guided else stops, self._chunks)
            start, end = (self._encode(prompt, chunks) for prompt in filled(self._weights, *stops))
            negative = self._negative(prompts["negative_prompt"], chunks) if guided else {}
            limit = token_limit(self._weights, self._chunks)
            warnings = [_truncated(self._weights, name, prompt, limit) for name, prompt in prompts.items()]
        return Leg(start, end, negative, tuple(warning for warning in warnings if warning))


def filled(weights: Weights, *prompts: str) -> tuple[str, ...]:
    """The prompts as they are encoded: of one number of tokens, where embeddings are as long as their prompt.

    Without that, attention to a token of the longer prompt would begin all at once between two frames. The number of
    tokens is the next multiple of FILL_TO, so that a stop usually has the same picture in both of its legs.
    """
    if not weights.family.fill:
        return prompts
    lengths = [_tokens(weights, prompt) for prompt in prompts]
    wanted = -(-max(lengths) // FILL_TO) * FILL_TO
    wanted = min(wanted, weights.token_limit)
    return tuple(_fill(weights, prompt, wanted - length) for prompt, length in zip(prompts, lengths, strict=True))


def _fill(weights: Weights, prompt: str, missing: int) -> str:
    """The prompt with so many more tokens, as far as one of FILLERS allows it."""
    length = _tokens(weights, prompt)
    candidates = (prompt.rstrip() + filler * missing for filler in FILLERS)
    exact = (text for text in candidates if _tokens(weights, text) == length + missing)
    return next(exact, prompt) if missing > 0 else prompt


def _tokens(weights: Weights, prompt: str) -> int:
    """The number of tokens of a prompt where the stock pipeline puts it, its begin and end tokens included."""
    pipeline = weights.pipeline
    if hasattr(pipeline, "_text_preprocessing"):  # lower case, for example
        (prompt,) = pipeline._text_preprocessing(prompt)
    return len(weights.tokenizer(prefix_of(pipeline) + prompt).input_ids) - weights.prefix_tokens


def _encode(weights: Weights, prompt: str, chunks: int) -> Embeddings:
    """One prompt, as the stock pipeline's `__call__` would encode it."""
    encoded = _encoded(weights, prompt, chunks)
    return {name: value for name, value in encoded.items() if not name.startswith("negative")}


def _encode_negative(weights: Weights, prompt: str, chunks: int) -> Embeddings:
    """The negative prompt; an empty one is what the stock pipeline uses where none is given."""
    if not weights.family.halves:
        return {f"negative_{name}": value for name, value in _encode(weights, prompt, chunks).items()}
    default = inspect.signature(weights.pipeline.__call__).parameters["negative_prompt"].default
    both = _encoded(weights, "", chunks, do_classifier_free_guidance=True, negative_prompt=prompt or default)
    return {name: value for name, value in both.items() if name.startswith("negative")}


def _encoded(weights: Weights, prompt: str, chunks: int, **more: Any) -> dict[str, Tensor]:
    """What encode_prompt returns for one prompt, by name, without the batch dimension, on the CPU.

    Embeddings of several chunks are put one after another; the pooled one is that of the first chunk.
    """
    pipelines = pipelines_for_chunks(weights.pipeline, chunks)
    first, *others = (_encoded_once(weights, pipeline, prompt, **more) for pipeline in pipelines)
    for other in others:
        first |= {name: torch.cat([value, other[name]]) for name, value in first.items() if "pooled" not in name}
    return first


@torch.inference_mode()
def _encoded_once(weights: Weights, pipeline: Any, prompt: str, **more: Any) -> dict[str, Tensor]:
    returns = weights.family.returns
    takes = inspect.signature(pipeline.encode_prompt).parameters
    options: dict[str, Any] = {"device": weights.device, "num_images_per_prompt": 1, "prompt_2": None, "prompt_3": None}
    options |= {"do_classifier_free_guidance": False, **_options(pipeline), **more}
    chosen = {name: value for name, value in options.items() if name in takes}
    got = dict(zip(returns, pipeline.encode_prompt(prompt, **chosen), strict=True))
    if MASK_OF_EMBEDS in returns and got[MASK_OF_EMBEDS] is None:
        # Qwen-Image leaves a mask out where every token counts; the other prompt of a leg may need one.
        got[MASK_OF_EMBEDS] = torch.ones(got[EMBEDS].shape[:2], dtype=torch.bool)
    # Z-Image returns a list with one tensor for each prompt, which is empty without a negative prompt.
    return {name: value[0].cpu() for name, value in got.items() if name and value is not None and len(value)}


def _options(pipeline: Any) -> dict[str, Any]:
    """The defaults of `__call__` for the options of encode_prompt, which has others for some of them.

    Not clean_caption: whether it has an effect depends on packages that may be installed by chance.
    """
    of_call = inspect.signature(pipeline.__call__).parameters
    names = ("max_sequence_length", "complex_human_instruction", "text_encoder_out_layers")
    return {name: of_call[name].default for name in names if name in of_call}


def _truncated(weights: Weights, name: str, prompt: str, limit: int) -> Truncated | None:
    """A warning if the prompt is longer than the limit in tokens, begin and end included."""
    tokenizer = weights.tokenizer
    if weights.tokens:
        prompt = weights.pipeline.maybe_convert_prompt(prompt, tokenizer)
    whole = tokenizer(prompt, add_special_tokens=False).input_ids
    room = limit - len(tokenizer("").input_ids)
    if len(whole) <= room:
        return None
    detail = f"The model reads {room} tokens of a prompt; this one has {len(whole)}. Shorten it."
    return Truncated(prompt=name, truncated=_as_written(weights, tokenizer.decode(whole[room:])), detail=detail)


def _as_written(weights: Weights, text: str) -> str:
    """A decoded text with each textual inversion as its token alone, whose further vectors are TOKEN_1, TOKEN_2, …"""
    for token in weights.tokens:
        text = re.sub(rf"{re.escape(token)}(_\d+)?", lambda found: "" if found[1] else f" {found[0]} ", text)
    return " ".join(text.split()) if weights.tokens else text
