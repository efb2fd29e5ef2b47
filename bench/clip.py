"""A clip in a style by the model service: 90 frames, as 3 s at 30 fps have.

    python bench/clip.py [--frames 90] [--width 480] [--height 270] [--threads 2]

Seconds and CPU seconds from the decoded pictures to PNG files, and how much the process grew, in MB. The smallest
number of cores that could do it in 60 s follows from the CPU seconds: use an idle machine for the other one.
"""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path
from time import perf_counter, process_time

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "model-service")]

import numpy as np
from PIL import Image

from atelier.scenes import paint_scene
from momalisa_model.cancellation import never
from momalisa_model.engines.style import load_style
from momalisa_model.model_recipe import read_recipes, source_of
from momalisa_model.recipes import ClipRecipe
from momalisa_model.settings import Settings
from momalisa_model.wire import RenderRequest

LIMIT_S = 60


def grown_to_mb() -> float:
    """The most memory that the process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def pan(count: int, width: int, height: int) -> list[np.ndarray]:
    """Pictures of a camera that moves over a painted scene."""
    side = max(width, height) + 2 * count
    scene = Image.fromarray(paint_scene(np.random.default_rng(3), 320).picture).resize((side, side))
    return [np.array(scene.crop((2 * i, i, 2 * i + width, i + height))) for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("frames", 90), ("width", 480), ("height", 270), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    loaded = load_style(source_of(read_recipes(["styles"])[0], Settings(threads=given.threads)), lambda _: None)
    card, size = loaded.card, {"width": given.width, "height": given.height}
    pictures = {f"{i:064x}": picture for i, picture in enumerate(pan(given.frames, given.width, given.height))}
    recipe = ClipRecipe(kind="clip", style="waves", model=card.model, revision=card.revision, **size)
    shards = [list(pictures)[first : first + card.micro_batch] for first in range(0, given.frames, card.micro_batch)]
    loaded.engine.warm_up(card, strict=True)
    before, began, cpu = grown_to_mb(), perf_counter(), process_time()
    for sources in shards:
        request = RenderRequest(recipe=recipe, fractions=[0.0] * len(sources), sources=tuple(sources))
        prepared = loaded.engine.prepare(request, pictures, never)
        for finish in loaded.engine.batches(request, prepared, pictures, never):
            list(finish())
    seconds, cpu = perf_counter() - began, process_time() - cpu
    print(f"{given.frames} frames of {given.width} x {given.height} with {given.threads} threads:")
    print(f"{seconds:.1f} s, {cpu:.1f} s of CPU; {LIMIT_S} s need {cpu / LIMIT_S:.2f} cores")
    print(f"memory: {grown_to_mb():.0f} MB, {grown_to_mb() - before:.0f} MB of it while painting")


if __name__ == "__main__":
    main()
