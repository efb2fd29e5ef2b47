"""The model card of a diffusion model: derived from its weights, with the fields that recipe and card files set."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from momalisa_model.families import denoiser_of, usual_settings
from momalisa_model.presets import preset_styles
from momalisa_model.problems import UnsuitableModel
from momalisa_model.prompt_chunks import token_limit
from momalisa_model.schedulers import SCHEDULERS, failure, name_of, working
from momalisa_model.settings import ModelSource
from momalisa_model.weights import Weights
from momalisa_model.wire import ModelCard

log = structlog.get_logger()
USUAL_SIDE = 1024

# The fields of a card that say which weights it is for.
IDENTITY = ("revision", "base_revision", "vae", "adapters")


def derive_card(weights: Weights, overrides: Mapping[str, Any] | None = None) -> ModelCard:
    """A card for weights: sizes and limits from the weights, the usual steps and guidance.

    overrides: fields of a card that replace derived ones, except token_limit and those that identify the weights.
    Raises UnsuitableModel if the result is not a valid card for the weights.
    """
    overrides = {name: value for name, value in (overrides or {}).items() if name not in IDENTITY}
    steps, guidance_scale, word = usual_settings(weights.pipeline, weights.model)
    if word and not {"num_inference_steps", "guidance_scale"} <= overrides.keys():
        named = word.strip("-").capitalize()
        event = f"assumed to be distilled for few steps ({named}) because of its name; set a model card to be sure"
        log.warning(event, model=weights.model)
    own = name_of(weights.pipeline.scheduler)
    derived = {
        "micro_batch": 8 if weights.device.type == "cuda" else 4,
        **_sizes(weights, overrides),
        "num_inference_steps": steps,
        "max_steps": min(100, weights.train_timesteps, _largest_steps(weights)),
        "guidance_scale": guidance_scale,
        "negative_prompt": "",
        "scheduler": own,
        "schedulers": list(dict.fromkeys([own, *weights.family.schedulers])),
        "model": weights.model,
        "styles": [] if _knows_few_words(overrides) else [style.model_dump() for style in preset_styles()],
    }
    fixed = {**overrides, **weights.additions.in_card}
    fixed |= {"revision": weights.revision, "token_limit": _token_limit(weights, overrides)}
    card = card_from({**derived, **fixed})
    if "schedulers" not in overrides:
        works = working(card.schedulers, weights.pipeline.scheduler.config, _steps(card))
        default = own if own in works else next(iter(works), own)
        card = card_from({**derived, "scheduler": default, "schedulers": works, **fixed})
    return _checked(card, weights, tried="schedulers" not in overrides)


def _knows_few_words(fields: Mapping[str, Any]) -> bool:
    """Whether a card, which may be invalid, lists the only words of its model: it lacks those of the presets."""
    about = fields.get("about")
    return bool(isinstance(about, dict) and about.get("words"))


def _token_limit(weights: Weights, fields: Mapping[str, Any]) -> int:
    """The token limit for the prompt_chunks among the fields of a card, which may be invalid."""
    chunks = fields.get("prompt_chunks", 1)
    return token_limit(weights, chunks if isinstance(chunks, int) else 1)


def _largest_steps(weights: Weights) -> int:
    """LCM and TCD choose their steps among those that the model was distilled from."""
    config = weights.pipeline.scheduler.config
    return int(config.get("original_inference_steps") or weights.train_timesteps)


def _sizes(weights: Weights, overrides: Mapping[str, Any]) -> dict[str, int]:
    """The fields of a card about sizes, in pixels. Raises UnsuitableModel if they are neither derivable nor given."""
    multiple, factor, denoiser = size_multiple(weights), weights.vae_scale_factor, denoiser_of(weights.pipeline)
    # Transformers without a sample_size work with any; their stock pipelines render 1024 pixels.
    unknown = None if weights.family.denoiser == "unet" else USUAL_SIDE // factor
    size = denoiser.config.get("sample_size", unknown)
    size = size if isinstance(size, (list, tuple)) else [size] * 2
    if len(size) != 2 or not all(isinstance(side, int | float) for side in size):
        missing = [name for name in ("width", "height", "min_size", "max_size") if name not in overrides]
        if missing:
            raise UnsuitableModel(
                f"The config.json of the {weights.family.denoiser} of {weights.model} has no sample_size. Set it, or "
                f"set {', '.join(missing)} in a model card."
            )
        return {"size_multiple": multiple}
    height, width = (int(side) * factor for side in size)
    # Stable Diffusion 3 has learnt a position for each token.
    positions = denoiser.config.get("pos_embed_max_size")
    largest = min(max(width, height) * 2, positions * multiple if positions else math.inf)
    return {
        "width": _nearest(width, multiple),
        "height": _nearest(height, multiple),
        "size_multiple": multiple,
        "min_size": _nearest(min(width, height) / 2, multiple),
        "max_size": _nearest(largest, multiple),
    }


def size_multiple(weights: Weights) -> int:
    """Width and height that the denoiser renders without cropping are multiples of this, in pixels."""
    patch = weights.family.patch
    if weights.family.denoiser == "unet":
        # The UNet halves latents on each level but the last; other sizes would be cropped or resized on the way up.
        patch = 2 ** (len(weights.pipeline.unet.config.block_out_channels) - 1)
    return math.lcm(weights.vae_scale_factor * patch, weights.family.multiple)


def _nearest(pixels: float, multiple: int) -> int:
    """The multiple that is nearest to the number of pixels; at least 8 pixels."""
    return multiple * max(round(pixels / multiple), math.ceil(8 / multiple), 1)


def card_fields(folder: Path | None, source: ModelSource) -> dict[str, Any]:
    """The fields that replace derived ones in a model's card: of card.json beside the weights, recipe and card file.

    folder: that of the weights; None if they have none.
    Later ones replace earlier ones, and a card file also replaces card.json. A card file for another model of the same
    replica counts for nothing. Raises UnsuitableModel if a file is not readable.
    """
    given = read_overrides(source.model_card) if source.model_card else None
    if given and source.card_fields and given.get("model") != source.card_fields["model"]:
        given = None
    beside = folder / "card.json" if folder else None
    below = read_overrides(beside) if given is None and beside and beside.is_file() else {}
    log.info("model card", file=str(source.model_card if given else beside) if below or given else "derived")
    return _with(_with(below, source.card_fields), given or {})


def _with(fields: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a card, replaced by later ones; those of `about` one by one."""
    abouts = [one["about"] for one in (fields, later) if isinstance(one.get("about"), dict)]
    both = {"about": abouts[0] | abouts[1]} if len(abouts) == 2 else {}
    return {**fields, **later, **both}


def read_card(weights: Weights, source: ModelSource) -> ModelCard:
    """The card of a model of this replica: derived, with the fields that recipe and card files set.

    The card's `model` is the model's name; only its revision must match the weights. Raises UnsuitableModel if the file
    is missing or malformed, if it is for other weights, or if it allows what they cannot do. The message contains no
    path, because it is sent over HTTP; the log has it.
    """
    fields = card_fields(weights.folder, source)
    for wrong in _other_additions(fields, weights):
        raise _unsuitable(wrong)
    stated: dict[str, Any] = {name: fields[name] for name in ("revision", "token_limit") if name in fields}
    return _checked(derive_card(weights, fields).model_copy(update=stated), weights, tried=True)


def read_overrides(file: Path) -> dict[str, Any]:
    """The fields of a card file that may be incomplete. Raises UnsuitableModel if it is not a JSON object."""
    try:
        fields = json.loads(_text_of(file))
    except (ValueError, RecursionError) as error:
        raise UnsuitableModel("The model card is not a JSON object; see MOMALISA_MODEL_CARD.") from error
    if not isinstance(fields, dict):
        raise UnsuitableModel("The model card is not a JSON object; see MOMALISA_MODEL_CARD.")
    return fields


def _text_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UnsuitableModel(f"The model card cannot be read ({error.strerror}); see MOMALISA_MODEL_CARD.") from error


def card_from(fields: Mapping[str, Any]) -> ModelCard:
    """The card with these fields. Raises UnsuitableModel with the first one that is wrong."""
    try:
        return ModelCard.model_validate_json(json.dumps(fields, default=str))
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in wrong["loc"]) or "the card"
        raise UnsuitableModel(f"The model card is not valid: {field}: {wrong['msg']}.") from error


def _checked(card: ModelCard, weights: Weights, tried: bool = False) -> ModelCard:
    """The card. Raises UnsuitableModel if it contradicts the weights. tried: whether its schedulers were tried."""
    for wrong in (*_mismatches(card, weights), *([] if tried else _failing_schedulers(card, weights))):
        raise _unsuitable(wrong)
    return card


def _unsuitable(wrong: str) -> UnsuitableModel:
    return UnsuitableModel(f"The model card {wrong}. `momalisa-model card` prints one for the loaded model.")


def _other_additions(fields: Mapping[str, Any], weights: Weights) -> Iterator[str]:
    """How the VAE and the adapters of a card for certain weights differ from the loaded ones: see `_mismatches`."""
    loaded = weights.additions.in_card
    for name in ("vae", "adapters") if "revision" in fields else ():
        stated, there = fields.get(name) or None, loaded.get(name) or None
        if stated != there:
            yield f"has as its {name} {json.dumps(stated)}, but MODEL_{name.upper()} is {json.dumps(there)}"


def _mismatches(card: ModelCard, weights: Weights) -> Iterator[str]:
    """Each contradiction between a card and the weights, as the end of a sentence about the card."""
    if card.revision != weights.revision:
        yield f"is for {card.model} at {card.revision}, but {weights.model} at {weights.revision} is loaded"
    if unknown := set(card.schedulers) - set(SCHEDULERS):
        yield f"allows unknown schedulers ({', '.join(sorted(unknown))}); known are {', '.join(SCHEDULERS)}"
    if card.size_multiple % (needed := math.lcm(weights.vae_scale_factor, weights.family.multiple)):
        yield f"has a size_multiple of {card.size_multiple}, which must be a multiple of {needed}"
    if card.prompt_chunks > 1 and not weights.family.chunks:
        yield f"has prompt_chunks, which models of the family {weights.family.name} do not have"
    if card.token_limit != (limit := token_limit(weights, card.prompt_chunks)):
        yield f"has a token_limit of {card.token_limit}, but that of the text encoder is {limit}"
    if card.guidance_interval and not weights.family.blends:
        yield f"has a guidance_interval, which models of the family {weights.family.name} do not have"
    if card.max_steps > weights.train_timesteps:
        yield f"has max_steps of {card.max_steps}, but the scheduler has {weights.train_timesteps}"


def _failing_schedulers(card: ModelCard, weights: Weights) -> Iterator[str]:
    for name in card.schedulers:
        if reason := failure(name, weights.pipeline.scheduler.config, _steps(card)):
            yield f"allows the scheduler {name}, which does not work with this model: {reason}"


def _steps(card: ModelCard) -> tuple[int, int]:
    """The numbers of steps that schedulers are tried with, beside the smallest ones."""
    return card.num_inference_steps, card.max_steps
