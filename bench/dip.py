"""Walks between pictures by the dip, and how long they take beside walks between prompts.

    python bench/dip.py [--walks 5] [--steps 12] [--threads 1]

Pictures of the painter for held-out captions, with these captions as prompts, with an empty prompt at one end, and with
both prompts empty. For each strength: evenness, largest step by mean, and sharpness of 17 uniform frames, in the
median; and how much nearer to the picture the autoencoder alone is than a walk's end, in dB, at most. Then the CPU
seconds of a micro-batch of five frames by those of one between prompts, both in one run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from itertools import pairwise
from pathlib import Path
from time import process_time

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "model-service")]

import numpy as np
import torch
from PIL import Image
from sampler import recipe_for

from atelier.sheet import paint_captions, sheet_captions
from momalisa_api.walks.smoothness import Meter, Smoothness
from momalisa_model.cancellation import never
from momalisa_model.lifecycle import LoadedModel, load_model
from momalisa_model.pictures import Pictures
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.settings import Settings
from momalisa_model.transfer import rounded

FRAMES, TIMED = 17, 5
STRENGTHS = (0.6, 0.8, 1.0)
# Which of the two pictures have a prompt.
PROMPTS = {"both": (1, 1), "one": (0, 1), "none": (0, 0)}


class Walk:
    """A leg between two of the painter's pictures, with their captions as prompts or without."""

    def __init__(self, ready: LoadedModel, recipe: BetweenRecipe, files: Pictures) -> None:
        self._ready, self._sampler, self.recipe, self._files = ready, ready.engine.sampler, recipe, files

    def but(self, **changes: object) -> Walk:
        return Walk(self._ready, self.recipe.model_copy(update=changes), self._files)

    def frames(self, count: int) -> torch.Tensor:
        """Uniform: (count, height, width, 3) in [0, 1]."""
        leg, along = self._sampler.encode(self.recipe), np.linspace(0, 1, count).tolist()
        parts = [along[first : first + TIMED] for first in range(0, count, TIMED)]
        return torch.cat([self._sampler.pictures(self.recipe, leg, some, never, self._files) for some in parts])

    def smoothness(self) -> Smoothness:
        meter = Meter(FRAMES)
        for picture in rounded(self.frames(FRAMES)).numpy():
            meter.add(Image.fromarray(picture))
        return meter.finish()

    def seconds(self) -> float:
        """CPU seconds of a micro-batch, whose ends are known, which other processes hardly change."""
        self.frames(TIMED)
        began = process_time()
        self.frames(TIMED)
        return process_time() - began

    def lost(self) -> float:
        """How much nearer the autoencoder alone is to the picture at the start, in dB."""
        original = torch.from_numpy(self._files[str(self.recipe.start_picture)]) / 255
        vae = self._sampler.weights.pipeline.vae
        with torch.no_grad():
            coded = vae.decode(vae.encode((original * 2 - 1).permute(2, 0, 1)[None]).latents).sample[0]
        own = (coded.permute(1, 2, 0) / 2 + 0.5).clamp(0, 1)
        return psnr(own, original) - psnr(self.frames(1)[0], original)


def psnr(picture: torch.Tensor, original: torch.Tensor) -> float:
    return float(-10 * ((picture - original) ** 2).mean().log10())


def walks(ready: LoadedModel, count: int, steps: int) -> list[Walk]:
    """Between neighbours of the painter's contact sheet."""
    captions = sheet_captions()[: count + 1]
    files = {f"{number}": picture for number, picture in enumerate(paint_captions(captions))}
    plain = recipe_for(ready).model_copy(update={"num_inference_steps": steps})
    made = []
    for number, (start, end) in enumerate(pairwise(captions)):
        stops = {"start": start.text, "start_picture": f"{number}", "end": end.text, "end_picture": f"{number + 1}"}
        made.append(Walk(ready, plain.model_copy(update=stops), files))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--walks", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    ready = load_model(Settings(threads=chosen.threads))
    legs = walks(ready, chosen.walks, chosen.steps)
    print(f"{ready.card.model}, {len(legs)} walks of {FRAMES} frames, {chosen.steps} steps")
    print("prompts   strength   evenness   largest/mean   sharpness   lost, dB")
    for name, (at_start, at_end) in PROMPTS.items():
        for strength in STRENGTHS:
            print_looks(
                f"{name:7}   {strength:8}",
                [
                    leg.but(strength=strength, start=leg.recipe.start * at_start, end=leg.recipe.end * at_end)
                    for leg in legs
                ],
            )
    print("strength   time by that between prompts")
    for strength in STRENGTHS:
        ratios = [
            leg.but(strength=strength).seconds() / leg.but(start_picture=None, end_picture=None).seconds()
            for leg in legs[:TIMED]
        ]
        print(f"{strength:8}   {statistics.median(ratios):28.2f}")


def print_looks(head: str, legs: list[Walk]) -> None:
    found = [leg.smoothness() for leg in legs]
    evenness, largest, sharpness = (
        statistics.median(getattr(one, field) or 0 for one in found) for field in ("evenness", "largest", "sharpness")
    )
    lost = max(leg.lost() for leg in legs)
    print(f"{head}   {evenness:8.2f}   {largest:12.1f}   {sharpness:9.2f}   {lost:8.2f}", flush=True)


if __name__ == "__main__":
    main()
