"""Paints the pictures whose styles the style engine offers: `python -m atelier.styles --out DIR`.

Each is a texture without a subject: the engine takes colours, strokes and contrast from it, and no shapes.
"""

import argparse
from collections.abc import Callable
from math import pi
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from atelier.brushwork import (
    Paint,
    cells,
    clouds,
    mix,
    ramp,
    relief,
    rgb,
    soft_step,
    steps,
    stroked,
    swirls,
    wavy_lines,
)
from atelier.canvas import coordinates

# The network reads 256 pixels a side.
STYLE_SIZE: Final = 256
STYLE_SUPERSAMPLING: Final = 2
QUALITY: Final = 88

Style = Callable[[np.random.Generator, int], Paint]


def glass_panes(dice: np.random.Generator, side: int) -> Paint:
    """Glowing panes in jewel colours between lines of lead."""
    owner, border, points = cells(dice, side, 8)
    jewels = np.array([(190, 18, 40), (20, 60, 170), (240, 180, 30), (16, 120, 80), (110, 30, 130), (230, 100, 20)])
    panes = (jewels[dice.integers(len(jewels), size=len(points))] / 255).astype(np.float32)[owner]
    light = 0.75 + 0.18 * clouds(dice, side, 3)[..., None] + 0.25 * border.clip(0, 0.6)[..., None]
    return mix(rgb(0.03, 0.03, 0.04), (panes * light).astype(np.float32), soft_step(border, 0.13, 0.08))


def woodcut(dice: np.random.Generator, side: int) -> Paint:
    """Lines of changing width, cut along hills, black on warm paper."""
    ground = clouds(dice, side, 1)
    bent = (coordinates(side)[1] + 0.07 * ground).astype(np.float32)
    tone = (0.5 + 0.3 * clouds(dice, side, 2)).clip(0.12, 0.88)
    return ramp(soft_step(wavy_lines(bent, 22) - tone, 0, 0.2), (22, 18, 16), (242, 226, 192))


def mosaic(dice: np.random.Generator, side: int) -> Paint:
    """Small stones in bands of blue, turquoise and gold, with pale grout."""
    owner, border, points = cells(dice, side, 26)
    band = np.sin(5 * points[:, 0] + 3 * np.sin(4 * points[:, 1])) * 0.5 + 0.5
    tones = ramp(
        (band + dice.normal(0, 0.08, len(band))).clip(0, 1).astype(np.float32),
        (14, 40, 110), (20, 110, 170), (70, 190, 190), (236, 220, 170), (220, 150, 40), (150, 60, 30),
    )  # fmt: skip
    tones *= dice.uniform(0.8, 1.15, (len(tones), 1)).astype(np.float32)
    return mix(rgb(0.82, 0.78, 0.7), tones[owner], soft_step(border, 0.2, 0.2))


def great_waves(dice: np.random.Generator, side: int) -> Paint:
    """Curling bands of Prussian blue with outlines and foam on cream."""
    x, y = coordinates(side)
    curl = y + 0.1 * np.sin(2 * pi * (1.5 * x + 0.5 * np.sin(5 * y))) + 0.05 * clouds(dice, side, 1)
    fall = (curl * 7) % 1
    paint = ramp(steps(fall.astype(np.float32), 5), (16, 42, 92), (46, 92, 148), (120, 164, 190), (214, 222, 212))
    outline = np.minimum(fall, 1 - fall).astype(np.float32)
    paint = mix(rgb(0.06, 0.09, 0.2), paint, soft_step(outline, 0.06, 0.05))
    foam = soft_step(clouds(dice, side, 5), 1.1, 0.2) * soft_step(fall.astype(np.float32), 0.55, 0.1)
    return mix(paint, rgb(0.96, 0.94, 0.86), foam)


def night_sky(dice: np.random.Generator, side: int) -> Paint:
    """Thick strokes that swirl around yellow lights in deep blue."""
    x, y = coordinates(side)
    angle = swirls(dice, side, 12)
    streaks = stroked(dice.normal(size=(side, side, 1)).astype(np.float32), angle, 40)[..., 0]
    tone = 0.4 + 0.17 * clouds(dice, side, 2) + 0.2 * streaks / streaks.std()
    paint = ramp(tone.clip(0, 1), (4, 10, 44), (16, 48, 130), (60, 130, 200), (226, 234, 200))
    for _ in range(11):
        far = np.hypot(x - dice.uniform(0, 1), y - dice.uniform(0, 1)) / dice.uniform(0.6, 1.3)
        glow = np.exp(-((far / 0.05) ** 2)) + 0.7 * np.exp(-(((far - 0.09) / 0.015) ** 2))
        paint = mix(paint, rgb(1.0, 0.84, 0.2), glow.astype(np.float32))
    return stroked(paint, angle, 10) * relief(streaks / streaks.std(), 0.5)[..., None]


def ink(dice: np.random.Generator, side: int) -> Paint:
    """Washes of black ink that dry with dark borders on white paper."""
    paper = 0.95 + 0.015 * clouds(dice, side, 5)
    for _ in range(5):
        wash = clouds(dice, side, 1) + 0.25 * clouds(dice, side, 4)
        inside = soft_step(wash, dice.uniform(0.3, 0.9), 0.25)
        dried = np.exp(-(((wash - 0.75) / 0.14) ** 2))
        paper = paper * (1 - dice.uniform(0.25, 0.6) * inside - 0.2 * dried)
    dry = stroked(dice.normal(size=(side, side, 1)).astype(np.float32), swirls(dice, side, 4), 60)[..., 0]
    brush = soft_step(dry / dry.std(), 0.9, 0.3) * soft_step(clouds(dice, side, 1), 0.5, 0.3)
    tone = paper * (1 - 0.8 * brush)
    return ramp(tone.clip(0, 1).astype(np.float32), (16, 18, 24), (110, 112, 116), (250, 248, 240))


def pastel(dice: np.random.Generator, side: int) -> Paint:
    """Soft chalk in rose, peach and mint on rough paper."""
    angle = (0.25 * pi + 0.5 * clouds(dice, side, 1)).astype(np.float32)
    tone = 0.5 + 0.3 * clouds(dice, side, 1)
    paint = ramp(
        tone.astype(np.float32), (150, 170, 210), (176, 214, 200), (250, 232, 200), (246, 186, 170), (206, 130, 160)
    )
    chalk = stroked(dice.normal(size=(side, side, 1)).astype(np.float32), angle, 16)[..., 0]
    grain = 0.09 * chalk / chalk.std() + 0.05 * dice.normal(size=(side, side))
    drawn: Paint = paint + grain.astype(np.float32)[..., None]
    return drawn


def embroidery(dice: np.random.Generator, side: int) -> Paint:
    """Satin stitches in red, teal and cream, each patch in a direction of its own."""
    x, y = coordinates(side)
    owner, border, points = cells(dice, side, 6)
    threads = np.array([(178, 32, 44), (16, 110, 116), (238, 222, 190), (214, 150, 50), (30, 50, 96)]) / 255
    turn = dice.uniform(0, pi, len(points))[owner]
    along, across = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
    row = np.floor(across * 46)
    round_ = np.sin(pi * (across * 46 % 1))
    ends = np.sin(pi * ((along * 9 + 0.37 * row) % 1)) ** 0.3
    shade = (0.45 + 0.6 * round_ * ends) * soft_step(border, 0.05, 0.08)
    colour = threads[dice.integers(len(threads), size=len(points))][owner]
    stitched: Paint = (colour * shade[..., None]).astype(np.float32)
    return stitched


def oil(dice: np.random.Generator, side: int) -> Paint:
    """Short strokes of oil in autumn colours, with ridges of paint."""
    angle = (1.2 * clouds(dice, side, 1)).astype(np.float32)
    bristles = stroked(dice.normal(size=(side, side, 1)).astype(np.float32), angle, 30)[..., 0]
    dabs = stroked(clouds(dice, side, 4)[..., None], angle, 24)[..., 0]
    tone = 0.5 + 0.17 * dabs / dabs.std() + 0.1 * clouds(dice, side, 1)
    paint = ramp(
        tone.clip(0, 1), (30, 40, 60), (30, 110, 110), (232, 214, 170), (246, 176, 60), (214, 84, 24), (96, 26, 30)
    )
    return (paint * relief(bristles / bristles.std(), 0.3)[..., None]).clip(0, 1)


def comic(dice: np.random.Generator, side: int) -> Paint:
    """Flat red, yellow and blue with black outlines and printed dots."""
    x, y = coordinates(side)
    owner, border, points = cells(dice, side, 5)
    inks = np.array([(228, 40, 44), (250, 214, 40), (40, 110, 210), (250, 246, 236), (250, 246, 236)]) / 255
    chosen = dice.integers(len(inks), size=len(points))
    flat = inks[chosen][owner].astype(np.float32)
    across, down = (x + y) * 28, (x - y) * 28
    dot = np.hypot(across % 1 - 0.5, down % 1 - 0.5).astype(np.float32)
    printed = soft_step(-dot, -0.3, 0.08) * (chosen[owner] > 2)
    flat = mix(flat, rgb(0.9, 0.2, 0.3), printed.astype(np.float32))
    return mix(rgb(0.04, 0.04, 0.06), flat, soft_step(border, 0.14, 0.05))


STYLES: Final[dict[str, Style]] = {
    "stained-glass": glass_panes,
    "woodcut": woodcut,
    "mosaic": mosaic,
    "waves": great_waves,
    "night-sky": night_sky,
    "ink": ink,
    "pastel": pastel,
    "embroidery": embroidery,
    "oil": oil,
    "comic": comic,
}


def style_picture(name: str) -> Image.Image:
    """The picture of a style, 256 x 256. Raises KeyError for an unknown name."""
    dice = np.random.default_rng(list(name.encode()))
    paint = STYLES[name](dice, STYLE_SIZE * STYLE_SUPERSAMPLING)
    picture = Image.fromarray((paint.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    return picture.reduce(STYLE_SUPERSAMPLING)


def main() -> None:
    """Paint all styles into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name in STYLES:
        style_picture(name).save(folder / f"{name}.webp", quality=QUALITY, method=6)


if __name__ == "__main__":
    main()
