"""Compares requests with the card and the features of the model that they name."""

from __future__ import annotations

from collections.abc import Iterator

from momalisa_model.problems import Invalid
from momalisa_model.recipes import ApartRecipe, BetweenRecipe, ClipRecipe, IntoRecipe, RestyleRecipe
from momalisa_model.wire import EARLY_BLEND, OTHER_KINDS, PICTURES, ModelAnswer, RenderRequest


def check(request: RenderRequest, answer: ModelAnswer, max_fractions: int) -> None:
    """Compare a well-formed request with the card and the features of the model that it names.

    Raises Invalid with every field that is not allowed.
    """
    recipe, card = request.recipe, answer.card
    errors = [(f"recipe.{side}", allowed) for side, allowed in card.refused_sizes(recipe.width, recipe.height)]
    if wrong := _refused_kind(request, answer):
        raise Invalid([wrong])
    if not isinstance(recipe, IntoRecipe | ApartRecipe):
        errors += [(f"recipe.{field}", allowed) for field, allowed in card.refused_settings(recipe)]
    if isinstance(recipe, BetweenRecipe):
        errors += _refused_stops(recipe, answer)
    if isinstance(recipe, RestyleRecipe | ClipRecipe):
        errors += _refused_way(recipe, answer)
    errors += [*_refused_sources(request), *_refused_pictures(request)]
    if request.extras and not isinstance(recipe, IntoRecipe | ApartRecipe):
        errors.append(("extras", f"must be false for the kind {recipe.kind}"))
    if len(request.fractions) > max_fractions:
        errors.append(("fractions", f"must have at most {max_fractions} items"))
    if errors:
        raise Invalid(errors)


def kinds_of(answer: ModelAnswer) -> list[str]:
    """The kinds of recipes that a model renders."""
    between = ["between"] if answer.card.engine == "diffusion" else []
    return between + [kind for kind in OTHER_KINDS if kind in answer.features]


def _refused_kind(request: RenderRequest, answer: ModelAnswer) -> tuple[str, str] | None:
    kinds = kinds_of(answer)
    if request.recipe.kind in kinds:
        return None
    return "recipe.kind", f"must be {' or '.join(kinds) or 'another'} for {answer.card.model} on this replica"


def _refused_stops(recipe: BetweenRecipe, answer: ModelAnswer) -> Iterator[tuple[str, str]]:
    """(field, what is allowed) for stops and settings that do not belong together."""
    if recipe.blend == "early" and EARLY_BLEND not in answer.features:
        yield "recipe.blend", "must be embeddings on this replica"
    if recipe.pictures and PICTURES not in answer.features:
        side = "start_picture" if recipe.start_picture else "end_picture"
        yield f"recipe.{side}", "must be null on this replica"
    for side, prompt, picture in (
        ("start", recipe.start, recipe.start_picture),
        ("end", recipe.end, recipe.end_picture),
    ):
        if not prompt and not picture:
            yield f"recipe.{side}", f"must have at least 1 character without {side}_picture"
    if bool(recipe.pictures) != (recipe.strength is not None):
        yield "recipe.strength", "must be from 0.1 to 1" if recipe.pictures else "must be null without pictures"


def _refused_way(recipe: RestyleRecipe | ClipRecipe, answer: ModelAnswer) -> Iterator[tuple[str, str]]:
    """(field, what is allowed) for a way of restyling that the model does not have."""
    if answer.card.engine == "diffusion":
        for name in ("style", "style_picture"):
            if getattr(recipe, name) is not None:
                yield f"recipe.{name}", "must be null for this model, which needs a prompt"
        return
    if recipe.prompt is not None:
        yield "recipe.prompt", "must be null for this model, which needs a style or a style_picture"
    if recipe.style is not None and recipe.style not in (names := [one.name for one in answer.card.styles]):
        yield "recipe.style", f"must be one of {', '.join(names)}" if names else "must be null for this model"


def _refused_sources(request: RenderRequest) -> Iterator[tuple[str, str]]:
    """(field, what is allowed) for pictures of a clip that are too many or too few."""
    if not isinstance(request.recipe, ClipRecipe):
        if request.sources is not None:
            yield "sources", f"must be left out for the kind {request.recipe.kind}"
    elif request.sources is None or len(request.sources) != len(request.fractions):
        yield "sources", "must have one item for each fraction"


def _refused_pictures(request: RenderRequest) -> Iterator[tuple[str, str]]:
    """(field, what is allowed) for files of pictures that are missing, or that nothing names."""
    for missing in sorted(request.named - request.pictures.keys()):
        yield f"pictures.{missing}", "is required, because the recipe names it"
    for other in sorted(request.pictures.keys() - request.named):
        yield f"pictures.{other}", "must be left out, because the recipe does not name it"
