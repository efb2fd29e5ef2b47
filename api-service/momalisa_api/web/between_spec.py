"""Turns requests for walks between stops into specs: validated, completed from the model card, canonical."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final, TypeVar

from momalisa_api.settings import Settings
from momalisa_api.walks.between import BetweenSpec
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.web.field_errors import refuse
from momalisa_api.web.request import DEFAULT_STRENGTH, WalkOptions, WalkRequest
from momalisa_api.web.stop_request import PictureRequest, Sizes, canonical_prompt, canonical_stops, stop_errors

NO_SIZES: Final[Sizes] = MappingProxyType({})
T = TypeVar("T")


def complete(
    options: WalkOptions,
    stops: Sequence[str | PictureRequest],
    card: ModelCard,
    settings: Settings,
    sizes: Sizes = NO_SIZES,
) -> BetweenSpec:
    """The canonical spec of a request, for the model of a card. sizes: of the caller's pictures among the stops.

    Raises Invalid, which names every invalid field.
    """
    width, height = _given(options.width, card.width), _given(options.height, card.height)
    canonical, errors = canonical_stops(stops, (width, height), sizes)
    strength = options.strength if isinstance(options, WalkRequest) else None
    pictures = any(isinstance(stop, PictureRequest) for stop in stops)
    if strength is not None and not pictures:
        errors.append(("strength", "must be omitted, because no stop is a picture"))
    spec = BetweenSpec(
        stops=canonical,
        strength=_given(strength, DEFAULT_STRENGTH) if pictures else None,
        frames=options.frames,
        spacing=options.spacing,
        # Equal walks are one walk: the effort only concerns even ones.
        effort=_given(options.effort, settings.effort) if options.spacing == "even" else "balanced",
        seed=options.seed,
        negative_prompt=canonical_prompt(_given(options.negative_prompt, card.negative_prompt)),
        width=width,
        height=height,
        steps=_given(options.steps, card.num_inference_steps),
        guidance_scale=_given(options.guidance_scale, card.guidance_scale),
        scheduler=_given(options.scheduler, card.scheduler),
        model=card.model,
        revision=card.revision,
        guidance_interval=card.guidance_interval,
        frame_ms=options.frame_ms,
        gif_there_and_back=options.gif_there_and_back,
        mp4_there_and_back=options.mp4_there_and_back,
    )
    errors += stop_errors(spec.stops, settings.max_stops, settings.max_prompt_chars)
    if len(spec.negative_prompt) > settings.max_prompt_chars:
        errors.append(("negative_prompt", f"must have at most {settings.max_prompt_chars} characters"))
    errors += _number_errors(spec, card, settings)
    refuse(errors)
    return spec


def _given(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value


def _number_errors(spec: BetweenSpec, card: ModelCard, settings: Settings) -> list[tuple[str, str]]:
    errors = []
    if not max(2, len(spec.stops)) <= spec.frames <= settings.max_frames:
        least = max(2, len(spec.stops))
        errors.append(
            ("frames", f"must be {least} to {settings.max_frames}: at least one for each stop, not {spec.frames}")
        )
    for side in ("width", "height"):
        size = getattr(spec, side)
        if not card.min_size <= size <= card.max_size or size % card.size_multiple:
            allowed = f"{card.min_size} to {card.max_size} in steps of {card.size_multiple}"
            errors.append((side, f"must be {allowed} pixels with {card.model}, not {size}"))
    if spec.steps > card.max_steps:
        errors.append(("steps", f"must be 1 to {card.max_steps} with {card.model}, not {spec.steps}"))
    if spec.scheduler not in card.schedulers:
        errors.append(("scheduler", f"must be one of {', '.join(card.schedulers)} with {card.model}"))
    return errors
