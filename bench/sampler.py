"""The sampler compared with frame-by-frame calls of the stock pipeline: same weights, frames and threads, in pairs.

    python bench/sampler.py [--threads 2] [--frames 24] [--pairs 5]

Prints a ratio for each pair and their median (target: at least 1.9 on two idle cores). The stock pipeline gets finished
embeddings and encodes no PNG, so that the comparison favours it.
"""

from __future__ import annotations

import argparse
import statistics
from time import perf_counter

import torch

from momalisa_model.families import EMBEDS, NEGATIVE
from momalisa_model.interpolation import slerp
from momalisa_model.lifecycle import LoadedModel, load_model
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.settings import Settings

CARD_DEFAULTS = ("width", "height", "num_inference_steps", "guidance_scale", "negative_prompt", "scheduler")


def recipe_for(ready: LoadedModel) -> BetweenRecipe:
    card = ready.answer.card
    start, end = card.about.examples[0] if card.about.examples else ("a red spiral on white", "a blue wave on yellow")
    defaults = {name: getattr(card, name) for name in CARD_DEFAULTS}
    return BetweenRecipe(start=start, end=end, seed=7, model=card.model, revision=card.revision, **defaults)


def service(ready: LoadedModel, recipe: BetweenRecipe, fractions: list[float]) -> float:
    began = perf_counter()
    assert len(list(ready.engine.sampler.frames(recipe, ready.engine.sampler.encode(recipe), fractions))) == len(
        fractions
    )
    return perf_counter() - began


@torch.inference_mode()
def stock(ready: LoadedModel, recipe: BetweenRecipe, fractions: list[float]) -> float:
    weights = ready.engine.sampler.weights
    leg = ready.engine.sampler.encode(recipe)
    walked = slerp(leg.start[EMBEDS], leg.end[EMBEDS], torch.tensor(fractions)).to(weights.device, weights.dtype)
    negative = leg.negative[NEGATIVE][None].to(weights.device, weights.dtype)
    began = perf_counter()
    for embeds in walked:
        weights.pipeline(
            prompt_embeds=embeds[None],
            negative_prompt_embeds=negative,
            generator=torch.Generator("cpu").manual_seed(recipe.seed),
            width=recipe.width,
            height=recipe.height,
            num_inference_steps=recipe.num_inference_steps,
            guidance_scale=recipe.guidance_scale,
        )
    return perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--pairs", type=int, default=5)
    chosen = parser.parse_args()
    ready = load_model(Settings(threads=chosen.threads))
    recipe = recipe_for(ready)
    fractions = [i / (chosen.frames - 1) for i in range(chosen.frames)]
    card = ready.answer.card
    print(f"{card.model}, {card.num_inference_steps} steps, micro-batch {card.micro_batch}, {chosen.threads} threads")
    ratios = []
    for pair in range(chosen.pairs):
        # The order alternates, so that a machine that slows down favours neither.
        order = [service, stock] if pair % 2 else [stock, service]
        seconds = {run: run(ready, recipe, fractions) for run in order}
        ratios.append(seconds[stock] / seconds[service])
        print(f"service {seconds[service]:6.2f} s   stock {seconds[stock]:6.2f} s   {ratios[-1]:.2f} x")
    print(f"median {statistics.median(ratios):.2f} x (target: at least 1.9)")


if __name__ == "__main__":
    main()
