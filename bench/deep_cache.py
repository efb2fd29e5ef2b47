"""How much time reusing deep blocks saves, and how much it changes pictures, beside fewer steps without it.

    python bench/deep_cache.py [--walks 6] [--threads 1]

For each row: CPU seconds relative to all steps of the card computed in the same pair, and PSNR to these pictures and to
those of 50 computed steps. A row is worth its time if no row with fewer steps is as fast and as close.
"""

from __future__ import annotations

import argparse
import statistics
from time import process_time

from sampler import recipe_for
from torch import Tensor

from momalisa_model.cancellation import never
from momalisa_model.engines.sampler import Sampler
from momalisa_model.lifecycle import load_model
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.settings import Settings

FRACTIONS = [0.0, 0.25, 0.5, 0.75, 1.0]
MANY_STEPS = 50
# Denoising steps relative to the card's, and the interval.
ROWS = ((1, 1), (3 / 4, 1), (2 / 3, 1), (1, 2), (1, 3), (2, 1), (5 / 3, 1), (4 / 3, 1), (2, 2), (2, 3))


def rendered(sampler: Sampler, recipe: BetweenRecipe) -> tuple[Tensor, float]:
    """The pictures of a walk, and the CPU seconds that they took, which other processes hardly change."""
    leg = sampler.encode(recipe)
    began = process_time()
    return sampler.pictures(recipe, leg, FRACTIONS, never), process_time() - began


def psnr(pictures: Tensor, others: Tensor) -> float:
    """Mean peak signal-to-noise ratio of pictures in [0, 1], in dB."""
    errors = ((pictures - others) ** 2).mean((1, 2, 3)).clamp(min=1e-10)
    return float((-10 * errors.log10()).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--walks", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    ready = load_model(Settings(threads=chosen.threads))
    card, plain = ready.answer.card, recipe_for(ready)
    samplers = {interval: Sampler(ready.engine.sampler.weights, len(FRACTIONS), interval) for _, interval in ROWS}
    pairs = card.about.examples[: chosen.walks]
    recipes = [plain.model_copy(update={"start": start, "end": end}) for start, end in pairs]
    in_many = [rendered(samplers[1], one.model_copy(update={"num_inference_steps": MANY_STEPS}))[0] for one in recipes]
    print(f"{card.model}, {len(recipes)} walks of {len(FRACTIONS)} frames, {chosen.threads} threads")
    print(f"steps   interval   relative time   dB to {card.num_inference_steps} steps   dB to {MANY_STEPS} steps")
    for share, interval in ROWS:
        steps = round(share * card.num_inference_steps)
        ratios, near, far = [], [], []
        for recipe, best in zip(recipes, in_many, strict=True):
            whole, seconds = rendered(samplers[1], recipe)
            pictures, less = rendered(samplers[interval], recipe.model_copy(update={"num_inference_steps": steps}))
            ratios.append(less / seconds)
            near.append(psnr(pictures, whole))
            far.append(psnr(pictures, best))
        means = f"{statistics.mean(near):14.1f}   {statistics.mean(far):14.1f}"
        print(f"{steps:5}   {interval:8}   {statistics.median(ratios):13.2f}   {means}")


if __name__ == "__main__":
    main()
