"""The atelier's named colours, and which of them are easy to distinguish."""

import math
from typing import Final

Rgb = tuple[int, int, int]

COLOURS: Final[dict[str, Rgb]] = {
    "black": (18, 18, 22),
    "white": (250, 250, 247),
    "grey": (142, 144, 148),
    "red": (214, 32, 40),
    "maroon": (104, 18, 36),
    "orange": (245, 130, 30),
    "yellow": (252, 214, 44),
    "gold": (200, 146, 34),
    "beige": (226, 206, 168),
    "brown": (116, 70, 42),
    "olive": (120, 122, 44),
    "green": (36, 146, 70),
    "lime": (164, 216, 50),
    "mint": (164, 232, 196),
    "teal": (16, 124, 132),
    "turquoise": (64, 206, 196),
    "sky blue": (124, 184, 236),
    "blue": (24, 86, 196),
    "navy": (20, 26, 86),
    "purple": (106, 46, 146),
    "lavender": (180, 160, 226),
    "magenta": (220, 32, 140),
    "pink": (250, 162, 186),
    "coral": (250, 114, 96),
}

MIN_CONTRAST: Final = 90.0


def contrast(first: str, second: str) -> float:
    """Euclidean distance of two named colours in RGB, 0 to 442."""
    return math.dist(COLOURS[first], COLOURS[second])


def are_distinct(colours: tuple[str, ...]) -> bool:
    """Whether every two of these colours are easy to distinguish."""
    return all(
        contrast(first, second) >= MIN_CONTRAST for i, first in enumerate(colours) for second in colours[i + 1 :]
    )
