"""The engine for diffusion models: walks between prompts and pictures, through the stock pipelines of diffusers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from momalisa_model.cancellation import ShouldStop
from momalisa_model.device_errors import explained, ran_out_of_memory, with_causes
from momalisa_model.engines.engine import Extra, Frame, LoadedEngine
from momalisa_model.engines.sampler import Sampler
from momalisa_model.fingerprints import made_of
from momalisa_model.hub import Report
from momalisa_model.model_card import read_card
from momalisa_model.packing import Finish
from momalisa_model.pictures import Pictures
from momalisa_model.placement import effective, place
from momalisa_model.problems import UnsuitableModel
from momalisa_model.prompts import Leg
from momalisa_model.recipes import BetweenRecipe, ClipRecipe, Recipe, RestyleRecipe
from momalisa_model.settings import ModelSource
from momalisa_model.weights import Weights, load
from momalisa_model.wire import ModelCard, RenderRequest


def load_diffusion(source: ModelSource, report: Report) -> LoadedEngine:
    """Load a pipeline, read its card, and place it on its device."""
    weights = _weights(source, report)
    card = read_card(weights, source)
    options = effective(card.device, weights.device)
    parts = made_of(weights, card.micro_batch, options, card.prompt_chunks)
    sampler = Sampler(weights, card.micro_batch, options.deep_cache, card.prompt_chunks)
    with explained(weights.model, "it", "MOMALISA_DTYPE to a half precision, or `device.offload` in the model card"):
        place(weights.pipeline, options, weights.device)
    return LoadedEngine(DiffusionEngine(sampler, card), card, parts)


def _weights(source: ModelSource, report: Report) -> Weights:
    try:
        return load(source, report)
    except Exception as error:
        if any(ran_out_of_memory(one) for one in with_causes(error)):
            raise UnsuitableModel(
                "This machine has too little memory to load the weights. Add memory, or set MOMALISA_DTYPE to a half "
                "precision."
            ) from error
        raise


def leg_of(recipe: Recipe) -> BetweenRecipe:
    """The leg that a recipe is rendered like: for a restyled picture or clip, that from its prompt to itself."""
    if isinstance(recipe, BetweenRecipe):
        return recipe
    assert isinstance(recipe, RestyleRecipe | ClipRecipe)
    names = set(BetweenRecipe.model_fields) & set(type(recipe).model_fields) - {"kind", "strength"}
    same = {name: getattr(recipe, name) for name in names}
    return BetweenRecipe(start=recipe.prompt or "", end=recipe.prompt or "", **same)


class DiffusionEngine:
    """Renders recipes with a Sampler."""

    def __init__(self, sampler: Sampler, card: ModelCard) -> None:
        self.sampler = sampler
        # Not if networks take turns on the device: one that comes to it would need the memory of the one that renders.
        self.prepares_beside = card.device.offload in ("none", "spread")

    @property
    def features(self) -> tuple[str, ...]:
        """Those of the sampler."""
        return self.sampler.features

    @property
    def batch_invariant(self) -> bool:
        """That of the sampler."""
        return self.sampler.batch_invariant

    def prepare(self, request: RenderRequest, _: Pictures, __: ShouldStop) -> Leg:
        """Encode the recipe's prompts. Prompts that were encoded lately are not encoded again."""
        leg = self.sampler.encode(leg_of(request.recipe))
        if isinstance(request.recipe, BetweenRecipe):
            return leg
        names = {"start": "prompt", "negative_prompt": "negative_prompt"}
        told = [one.model_copy(update={"prompt": names[one.prompt]}) for one in leg.warnings if one.prompt in names]
        return replace(leg, warnings=tuple(told))

    def extras(self, _: Leg) -> Iterator[Extra]:
        """None."""
        return iter(())

    def batches(
        self, request: RenderRequest, leg: Leg, pictures: Pictures, should_stop: ShouldStop
    ) -> Iterator[Finish[Frame]]:
        """The frames at the request's fractions: see Sampler.batches."""
        recipe, fractions = request.recipe, request.fractions
        alone = leg_of(recipe)
        match recipe:
            case RestyleRecipe(picture=picture, strength=float(strength)):
                course = self.sampler.restyled(alone, leg, picture, strength, fractions, pictures, should_stop)
            case ClipRecipe(strength=float(strength)):
                course = self.sampler.along_clip(request.sources or (), strength, pictures)
            case _:
                return self.sampler.batches(alone, leg, fractions, should_stop, pictures)
        return self.sampler.batches_on(course, alone, leg, fractions, should_stop)

    def warm_up(self, card: ModelCard, strict: bool) -> None:
        """See Sampler.warm_up."""
        self.sampler.warm_up(card, strict)

    def self_test(self, card: ModelCard) -> None:
        """Render one micro-batch with the card's defaults."""
        self.sampler.render_defaults(card)
