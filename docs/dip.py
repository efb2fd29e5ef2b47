"""Makes dip.webp, walks from pictures into the embedded model's world: `make pictures`.

The pictures are computed: a landscape at sunset and fruit on a table, both as a camera would see them. Nine frames of
each walk are chosen as even spacing would: the steps between them are as equal as those of many frames allow.
"""

import io
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from momalisa_api.walks.smoothness import distance
from momalisa_model.lifecycle import LoadedModel, load_model
from momalisa_model.pictures import Pictures
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.settings import Settings

DOCS = Path(__file__).parent
SIDE, SHOWN, RENDERED, GAP_PX, CELL_PX = 256, 9, 33, 4, 88
STRENGTH, SEED = 0.8, 7
LANDSCAPE = "a morning landscape with a sun, gold, teal and beige"
FLOWER = "a white and yellow flower on magenta"
SPIRAL = "a wide spiral in blue and white"
# Each stop: a picture, a prompt.
WALKS = (
    (("sunset", ""), ("", LANDSCAPE)),
    (("fruit", ""), ("", SPIRAL)),
    (("sunset", LANDSCAPE), ("fruit", FLOWER)),
)
Floats = NDArray[np.float64]


def sunset() -> Floats:
    """Three ridges before the sun: (height, width, 3) in [0, 1]."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    picture = np.stack([1 - 0.25 * y, 0.55 + 0.1 * y, 0.75 - 0.5 * y], -1)
    picture += np.exp(-((x - 0.68) ** 2 + (y - 0.42) ** 2) / 0.006)[..., None] * [0.6, 0.5, 0.2]
    ridges = ((0.55, (0.45, 0.30, 0.45), 3), (0.66, (0.28, 0.18, 0.32), 5), (0.8, (0.1, 0.08, 0.14), 8))
    for height, colour, seed in ridges:
        phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, 6)
        waves = (1, 2, 3, 5, 8, 13)
        ridge = height + sum(
            0.05 / wave * np.sin(2 * np.pi * wave * x[0] + phase) for wave, phase in zip(waves, phases, strict=True)
        )
        picture = np.where((y > ridge)[..., None], np.array(colour) * (1.1 - 0.3 * y[..., None]), picture)
    return picture


def fruit() -> Floats:
    """Three balls in the light of a window: (height, width, 3) in [0, 1]."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    table, wall = np.array([0.45, 0.3, 0.2]), np.array([0.72, 0.76, 0.74])
    picture = np.where((y > 0.62)[..., None], table * (1.2 - 0.4 * y[..., None]), wall * (1.05 - 0.4 * x[..., None]))
    balls = (
        (0.38, 0.52, 0.22, (0.85, 0.15, 0.12)),
        (0.66, 0.58, 0.17, (0.95, 0.65, 0.1)),
        (0.55, 0.36, 0.12, (0.35, 0.62, 0.2)),
    )
    for left, top, radius, colour in balls:
        across, down = (x - left) / radius, (y - top) / radius
        towards = np.sqrt(np.clip(1 - across**2 - down**2, 0, 1))
        light = np.clip(0.62 * towards - 0.5 * across - 0.6 * down, 0, 1)[..., None]
        ball = np.array(colour) * (0.25 + 0.85 * light) + 0.7 * light**30
        picture = np.where((across**2 + down**2 < 1)[..., None], ball, picture)
    return picture


def taken(picture: Floats) -> NDArray[np.uint8]:
    """The picture with the noise of a camera."""
    noise = np.random.default_rng(0).normal(0, 0.02, picture.shape)
    return ((picture + noise).clip(0, 1) * 255).astype(np.uint8)


def walk(ready: LoadedModel, start: tuple[str, str], end: tuple[str, str], files: Pictures) -> list[Image.Image]:
    """Nine evenly chosen frames between two stops."""
    card = ready.card
    names = ("negative_prompt", "num_inference_steps", "guidance_scale", "scheduler", "model", "revision")
    recipe = BetweenRecipe(
        start=start[1], end=end[1], seed=SEED, width=SIDE, height=SIDE, **{name: getattr(card, name) for name in names}
    ).model_copy(update={"start_picture": start[0] or None, "end_picture": end[0] or None, "strength": STRENGTH})
    # Most changes are near pictures.
    along = np.linspace(0, 1, RENDERED)
    near_both = np.where(along < 0.5, 2 * along**2, 1 - 2 * (1 - along) ** 2)
    fractions = near_both if end[0] else along**2
    sampler = ready.engine.sampler
    rendered = sampler.frames(recipe, sampler.encode(recipe), fractions.tolist(), files=files)
    frames = [Image.open(io.BytesIO(frame.png)).convert("RGB") for frame in rendered]
    steps = [distance(before, after) for before, after in pairwise(frames)]
    travelled = np.array([0, *accumulate(steps)])
    wanted = np.linspace(0, travelled[-1], SHOWN)
    return [frames[int(np.abs(travelled - one).argmin())] for one in wanted]


def main() -> None:
    ready = load_model(Settings(threads=1))
    files = {"sunset": taken(sunset()), "fruit": taken(fruit())}
    cell = CELL_PX + GAP_PX
    sheet = Image.new("RGB", (SHOWN * cell - GAP_PX, len(WALKS) * cell - GAP_PX), "white")
    for row, (start, end) in enumerate(WALKS):
        for column, frame in enumerate(walk(ready, start, end, files)):
            sheet.paste(frame.resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS), (column * cell, row * cell))
    sheet.save(DOCS / "dip.webp", quality=85, method=6)


if __name__ == "__main__":
    main()
