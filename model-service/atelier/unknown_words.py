"""Pictures for unknown words: their letters choose a palette and a calm composition.

The first letter of the first unknown word chooses the colours, and the last letter of the last one the composition. So
"a giraffe" and "a battleship" are always the same two pictures, and a walk leads from one to the other.
"""

import re
from random import Random
from string import ascii_lowercase
from typing import Final

from atelier.captions import Caption, join_words, vocabulary
from atelier.palette import COLOURS, are_distinct

COMPOSITIONS: Final[tuple[tuple[str, int], ...]] = (
    ("landscape", 0),
    ("discs", 0),
    ("sunburst", 1),
    ("waves", 0),
    ("landscape", 1),
    ("circles", 0),
    ("rainbow", 0),
    ("field", 0),
)

# One for each letter; the ground is last.
PALETTES: Final[tuple[tuple[str, str, str], ...]] = (
    ("coral", "teal", "beige"),
    ("yellow", "blue", "white"),
    ("red", "navy", "beige"),
    ("orange", "purple", "mint"),
    ("white", "magenta", "navy"),
    ("gold", "maroon", "white"),
    ("yellow", "green", "sky blue"),
    ("pink", "maroon", "white"),
    ("white", "sky blue", "navy"),
    ("lime", "purple", "white"),
    ("red", "black", "white"),
    ("magenta", "purple", "mint"),
    ("orange", "maroon", "pink"),
    ("yellow", "navy", "coral"),
    ("red", "orange", "white"),
    ("coral", "purple", "beige"),
    ("gold", "black", "beige"),
    ("red", "maroon", "sky blue"),
    ("yellow", "teal", "white"),
    ("white", "turquoise", "blue"),
    ("pink", "purple", "yellow"),
    ("lavender", "purple", "yellow"),
    ("orange", "brown", "mint"),
    ("black", "red", "beige"),
    ("orange", "magenta", "white"),
    ("black", "yellow", "turquoise"),
)

# These do not count as unknown: "the giraffe" is the same picture as "a giraffe".
FUNCTION_WORDS: Final = frozenset(
    {"the", "my", "your", "his", "her", "our", "their", "its", "this", "that", "at", "by", "for", "from", "to", "with"}
)
KNOWN_WORDS: Final = vocabulary() | FUNCTION_WORDS
# For the evaluation. Training never uses these: its unknown words are random.
UNKNOWN_PHRASES: Final = (
    "a giraffe",
    "a battleship",
    "an old man at sea",
    "the eiffel tower",
    "my cat",
    "a castle in the snow",
    "jazz",
    "a forest at night",
    "two dancers",
    "a bowl of fruit",
    "the moon",
    "a red bicycle",
    "an elephant",
    "a train station",
    "happiness",
    "a dragon over the city",
    "the letter q",
    "a violin",
    "summer",
    "an astronaut",
)

CONSONANTS: Final = "bcdfghjklmnpqrstvwxyz"
ONSETS: Final[tuple[str, ...]] = (
    *CONSONANTS,
    "",
    "br",
    "ch",
    "cl",
    "dr",
    "fl",
    "gr",
    "pl",
    "sh",
    "sp",
    "st",
    "th",
    "tr",
)
VOWELS: Final = ("a", "e", "i", "o", "u", "y", "ai", "ea", "ee", "ou", "oo")
ENDS: Final[tuple[str, ...]] = (
    *ascii_lowercase,
    "",
    "",
    "",
    "ed",
    "er",
    "ing",
    "ion",
    "ship",
    "th",
    "nd",
    "rs",
    "ck",
    "lle",
)


def unknown_words_of(text: str) -> list[str]:
    """The unknown words of a text, in order."""
    return [word for word in re.findall(r"[^\W\d_]+", text.casefold()) if word not in KNOWN_WORDS]


def substitute_caption(text: str) -> Caption:
    """The picture for a text with unknown words. Colours in the text replace the first ones of the palette.

    Raises ValueError if the text has no unknown word.
    """
    words = unknown_words_of(text)
    if not words:
        raise ValueError(f"no unknown word in {text!r}")
    palette = PALETTES[(ord(words[0][0]) - ord("a")) % len(PALETTES)]
    family, kind = COMPOSITIONS[(ord(words[-1][-1]) - ord("a")) % len(COMPOSITIONS)]
    return Caption(family, _three(named_colours(text), palette), kind, text)


def named_colours(text: str) -> list[str]:
    """The colours in a text, in order, each once."""
    names = sorted(COLOURS, key=len, reverse=True)
    return list(dict.fromkeys(re.findall(rf"\b({'|'.join(names)})\b", text.casefold())))


def _three(named: list[str], palette: tuple[str, ...]) -> tuple[str, ...]:
    chosen: tuple[str, ...] = ()
    for colour in (*named, *palette, *COLOURS):
        if len(chosen) < len(palette) and are_distinct((*chosen, colour)):
            chosen += (colour,)
    return chosen


def random_word(rng: Random) -> str:
    """A random unknown word; any letter can be first or last."""
    while True:
        middle = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(rng.choice((1, 1, 2, 2, 3))))
        word = middle + rng.choice(ENDS)
        if word not in KNOWN_WORDS:
            return word


def draw_unknown_caption(rng: Random) -> Caption:
    """A training caption of one to four random words, some with colours."""
    while True:
        caption = substitute_caption(_draw_phrase(rng))
        if not caption.held_out:
            return caption


def _draw_phrase(rng: Random) -> str:
    words = [random_word(rng) for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4)))]
    colours = rng.sample(tuple(COLOURS), rng.choice((0, 0, 0, 1, 2)))
    if colours and rng.random() < 0.5:
        words[0] = f"{join_words(tuple(colours))} {words[0]}"
        colours = []
    little = rng.choice(("a ", "an ", "the ", "", "a painting of a ", "a painting of the "))
    joined = "".join(word + rng.choice((" ", " ", " in a ", " and a ", " on the ", " of ")) for word in words[:-1])
    ending = f" in {join_words(tuple(colours))}" if colours else ""
    return f"{little}{joined}{words[-1]}{ending}"
