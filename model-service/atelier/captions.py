"""Captions of pictures in several phrasings, and the split into training and held-out ones."""

from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Final

from atelier.families import FAMILIES
from atelier.palette import COLOURS, are_distinct

HELD_OUT_ONE_IN: Final = 10


@dataclass(frozen=True)
class Caption:
    """What to paint, and the words for it. Colours are in the order of their names in the text."""

    family: str
    colours: tuple[str, ...]
    kind: int
    text: str

    @property
    def held_out(self) -> bool:
        """Whether this family in these colours is excluded from training."""
        return held_out(self.family, self.colours)


def held_out(family: str, colours: tuple[str, ...]) -> bool:
    """Whether a family in these colours is excluded from training: one pairing in ten, decided by a hash."""
    digest = sha256(f"{family}:{','.join(colours)}".encode()).hexdigest()
    return int(digest, 16) % HELD_OUT_ONE_IN == 0


def join_words(words: tuple[str, ...]) -> str:
    """Join words as in `red`, `red and blue`, `red, blue and green`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def with_article(article: str, words: str) -> str:
    """Words with `a` or `an`, whichever fits; without an article if `article` is empty."""
    if not article:
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def phrase(family: str, colours: tuple[str, ...], kind: int | None, rng: Random) -> str:
    """A random phrasing. kind: the layout to name, 0 or 1; None names none."""
    article, noun = rng.choice(FAMILIES[family].names)
    noun_kind = noun if kind is None else f"{FAMILIES[family].kinds[kind]} {noun}"
    figure, ground = join_words(colours[:-1]), colours[-1]
    adjective = "" if kind is None else f"{FAMILIES[family].kinds[kind]} "
    return rng.choice(
        (
            f"{with_article(article, noun_kind)} in {join_words(colours)}",
            f"{noun_kind}, {join_words(colours)}",
            with_article(article, f"{adjective}{figure} {noun} on {ground}"),
            f"a painting of {with_article(article, noun_kind)} in {join_words(colours)}",
            f"{join_words(colours)} {noun_kind}",
        )
    )


def draw_caption(rng: Random, from_held_out: bool = False) -> Caption:
    """A random caption, from the training side or from the held-out side."""
    family = rng.choice(tuple(FAMILIES))
    while True:
        colours = tuple(rng.sample(tuple(COLOURS), rng.choice(FAMILIES[family].counts)))
        if are_distinct(colours) and held_out(family, colours) is from_held_out:
            break
    kind = rng.randrange(2)
    return Caption(family, colours, kind, phrase(family, colours, rng.choice((kind, None)), rng))


def vocabulary() -> frozenset[str]:
    """Every word that captions can contain."""
    words = set(["a", "an", "in", "on", "and", "of", "with", "painting"])
    for family in FAMILIES.values():
        words.update(" ".join((*family.kinds, *(noun for _, noun in family.names))).split())
    words.update(" ".join(COLOURS).split())
    return frozenset(words)
