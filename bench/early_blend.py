"""Legs that jump, with and without the early blend: fifty walks between held-out captions, one at a time.

    python bench/early_blend.py [--walks 50] [--cache FOLDER] [--sheets FOLDER]

The product's own rounds over one sampler in this process, without HTTP: figures are of pictures, not of time. Frames
are kept in the cache, so that a second run renders nothing twice. --sheets: writes a picture of each rescued leg, the
plain frames above those with the early blend.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "model-service")]

import torch
from PIL import Image

from atelier.captions import draw_caption
from momalisa_api.walks import rescue
from momalisa_api.walks.between import BetweenSpec
from momalisa_api.walks.even_spacing import CLOSEST
from momalisa_api.walks.growth import Capacity, choose_growth
from momalisa_api.walks.rounds import Layout, Point, first_layout, next_layout, with_growth
from momalisa_api.walks.smoothness import Meter, Smoothness, Thumbnail
from momalisa_api.walks.spec import Frame
from momalisa_model.engines.sampler import Sampler
from momalisa_model.model_card import read_card
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.settings import Settings
from momalisa_model.weights import load

FRAMES = 25
# What `momalisa up` has by default.
REPLICAS = 2
# A step so many times the mean is a jump that is left, if its fractions are closer than any that are split.
LEFT_TIMES = 2.0
# Largest steps, as multiples of the mean, from which legs may be rescued.
THRESHOLDS = (1.6, 1.75, 2.0)
INTERVAL = (1 / 3, 1.0)
INTERVAL_WALKS = 20


class Studio:
    """Renders the frames of layouts into a folder of pictures."""

    def __init__(self, cache: Path) -> None:
        torch.set_num_threads(1)
        settings = Settings()
        weights = load(settings)
        self.card = read_card(weights, settings)
        self._sampler = Sampler(weights, self.card.micro_batch)
        self._cache = cache

    def path(self, frame: Frame) -> Path:
        return self._cache / frame.key

    def render(self, frames: Sequence[Frame]) -> None:
        """Render the frames that the cache lacks."""
        missing = [frame for frame in dict.fromkeys(frames) if not self.path(frame).exists()]
        for recipe in dict.fromkeys(frame.recipe for frame in missing):
            body = {"num_inference_steps" if name == "steps" else name: it for name, it in recipe.content.items()}
            of_model = BetweenRecipe(**body)
            fractions = [frame.fraction for frame in missing if frame.recipe == recipe]
            for rendered in self._sampler.frames(of_model, self._sampler.encode(of_model), fractions):
                target = self.path(Frame(recipe, rendered.fraction))
                target.parent.mkdir(parents=True, exist_ok=True)
                target.with_suffix(".part").write_bytes(rendered.png)
                target.with_suffix(".part").rename(target)

    def settle(self, spec: BetweenSpec, *, with_rescue: bool) -> Layout:
        """Play all rounds of a walk, as workers do."""
        growth = choose_growth(spec.effort, spec.legs, Capacity(self.card.micro_batch, REPLICAS))
        layout = with_growth(spec, first_layout(spec), growth).model_copy(update={"rescue": with_rescue})
        while not layout.settled:
            frames = layout.frames(spec)
            self.render(frames)
            paths = dict(zip(layout.points, map(self.path, frames), strict=True))
            layout = next_layout(spec, layout, _thumbnails(paths))
        self.render(layout.frames(spec))
        return layout


def _thumbnails(paths: dict[Point, Path]) -> Callable[[Point], Thumbnail]:
    known: dict[Point, Thumbnail] = {}

    def thumbnail(point: Point) -> Thumbnail:
        if point not in known:
            known[point] = Thumbnail.of(paths[point].read_bytes())
        return known[point]

    return thumbnail


@dataclass(frozen=True)
class Walked:
    """A finished walk.

    left: whether a step of over twice the mean is left between very close fractions; edges: sharpness of its stops.
    """

    layout: Layout
    smoothness: Smoothness
    left: bool
    edges: float


def walked(studio: Studio, spec: BetweenSpec, *, with_rescue: bool = False) -> Walked:
    layout = studio.settle(spec, with_rescue=with_rescue)
    meter, seen = Meter(spec.frames), []
    for frame in layout.frames(spec):
        png = studio.path(frame).read_bytes()
        meter.add(Image.open(io.BytesIO(png)).convert("RGB"))
        seen.append(Thumbnail.of(png))
    steps = [one.distance(other) for one, other in pairwise(seen)]
    apart = [other.fraction - one.fraction for one, other in pairwise(layout.points)]
    large = LEFT_TIMES * statistics.fmean(steps)
    left = any(step > large and gap < CLOSEST for step, gap in zip(steps, apart, strict=True))
    edges = statistics.fmean((seen[0].edge, seen[-1].edge))
    return Walked(layout, meter.finish(), left, edges)


def specs(studio: Studio, walks: int, interval: tuple[float, float] | None = None) -> Iterator[BetweenSpec]:
    by_chance, card = Random(2026), studio.card
    for number in range(walks):
        start, end = (draw_caption(by_chance, from_held_out=True).text for _ in range(2))
        yield BetweenSpec(
            stops=(start, end),
            frames=FRAMES,
            seed=number,
            spacing="even",
            effort="balanced",
            negative_prompt=card.negative_prompt,
            width=card.width,
            height=card.height,
            steps=card.num_inference_steps,
            guidance_scale=card.guidance_scale,
            guidance_interval=interval,
            scheduler=card.scheduler,
            model=card.model,
            revision=card.revision,
            frame_ms=80,
            gif_there_and_back=True,
            mp4_there_and_back=False,
        )


def line(what: str, walks: Sequence[Walked]) -> None:
    """A row: evenness, its worst tenth and worst, largest step over mean and its worst, sharpness, jumps left."""
    found = [walk.smoothness for walk in walks]
    even = sorted(each.evenness or 0.0 for each in found)
    largest = [each.largest or 0.0 for each in found]
    sharp = [each.sharpness or 0.0 for each in found]
    mean, tenth = statistics.fmean, even[: max(1, len(even) // 10)]
    figures = (mean(even), mean(tenth), even[0], mean(largest), max(largest), mean(sharp), statistics.median(sharp))
    left = sum(walk.left for walk in walks)
    print(f"{what:44} {len(walks):5} " + " ".join(f"{figure:7.3f}" for figure in figures) + f" {left:5}", flush=True)


def _has_early(walk: Walked) -> bool:
    return any(point.early for point in walk.layout.points)


def sheet(studio: Studio, spec: BetweenSpec, ways: Sequence[Layout], target: Path) -> None:
    """The frames of a walk, one way above the other, in two rows each."""
    side, columns = 100, -(-FRAMES // 2)
    picture = Image.new("RGB", (side * columns, (side * 2 + 10) * len(ways)), "white")
    for row, layout in enumerate(ways):
        for number, frame in enumerate(layout.frames(spec)):
            small = Image.open(studio.path(frame)).resize((side, side))
            picture.paste(small, (number % columns * side, row * (side * 2 + 10) + number // columns * side))
    target.parent.mkdir(parents=True, exist_ok=True)
    picture.save(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--walks", type=int, default=50)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--sheets", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(Studio(options.cache or Path(folder)), options.walks, options.sheets)


def compare(studio: Studio, walks: int, sheets: Path | None) -> None:
    rescue.JUMPS = THRESHOLDS[0]  # type: ignore[misc]
    uniform, plain, rescued = [], [], []
    for number, spec in enumerate(specs(studio, walks)):
        uniform.append(walked(studio, spec.model_copy(update={"spacing": "uniform"})))
        plain.append(walked(studio, spec))
        rescued.append(walked(studio, spec, with_rescue=True))
        if sheets and _has_early(rescued[-1]):
            sheet(studio, spec, [plain[-1].layout, rescued[-1].layout], sheets / f"{number:02}.png")
    print(f"{'':44} walks    even   tenth   worst largest   worst   sharp  median  left")
    line("uniform", uniform)
    line("plain", plain)
    for times in THRESHOLDS:
        tried = [number for number, walk in enumerate(plain) if (walk.smoothness.largest or 0.0) > times]
        won = [number for number in tried if _has_early(rescued[number])]
        line(
            f"rescue over {times}: {len(tried)} rescued, {len(won)} more even",
            [rescued[number] if number in tried else walk for number, walk in enumerate(plain)],
        )
        if tried:
            line("  of these: uniform", [uniform[number] for number in tried])
            line("  of these: plain", [plain[number] for number in tried])
            line("  of these: with rescue", [rescued[number] for number in tried])
    few = min(walks, INTERVAL_WALKS)
    limited = [walked(studio, spec) for spec in specs(studio, few, INTERVAL)]
    line("of the first ones: plain", plain[:few])
    line(f"of the first ones: guidance_interval {INTERVAL[0]:.2f} to 1", limited)
    edges = [sum(walk.edges for walk in walks) for walks in (limited, plain[:few])]
    print(f"sharpness of their stops, relative to guidance in all steps: {edges[0] / edges[1]:.3f}")


if __name__ == "__main__":
    main()
