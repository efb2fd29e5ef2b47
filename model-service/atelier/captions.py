"""Captions: what a picture is called, in several phrasings, and which ones are kept from training."""

from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Final

from atelier.families import FAMILIES
from atelier.palette import COLOURS, are_distinct

HELD_OUT_ONE_IN: Final = 10


@dataclass(frozen=True)
class Caption:
    """What to paint, and the words for it. Colours are in the order in which they are named."""

    family: str
    colours: tuple[str, ...]
    kind: int
    text: str

    @property
    def held_out(self) -> bool:
        """Whether this family in these colours is kept from training."""
        return held_out(self.family, self.colours)


def held_out(family: str, colours: tuple[str, ...]) -> bool:
    """One pairing in ten, by hash: no list to keep, and the same everywhere."""
    digest = sha256(f"{family}:{','.join(colours)}".encode()).hexdigest()
    return int(digest, 16) % HELD_OUT_ONE_IN == 0


def join_words(words: tuple[str, ...]) -> str:
    """red; red and blue; red, blue and green."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def with_article(article: str, words: str) -> str:
    """The article that fits the word after it; "" stays without."""
    if not article:
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def phrase(family: str, colours: tuple[str, ...], kind: int | None, rng: Random) -> str:
    """One of the ways to say it. kind None leaves the layout open."""
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
    """A caption by chance, from the training side or from the held-out side."""
    family = rng.choice(tuple(FAMILIES))
    while True:
        colours = tuple(rng.sample(tuple(COLOURS), rng.choice(FAMILIES[family].counts)))
        if are_distinct(colours) and held_out(family, colours) is from_held_out:
            break
    kind = rng.randrange(2)
    return Caption(family, colours, kind, phrase(family, colours, rng.choice((kind, None)), rng))


def vocabulary() -> frozenset[str]:
    """Every word that a caption can hold."""
    words = set(["a", "an", "in", "on", "and", "of", "with", "painting"])
    for family in FAMILIES.values():
        words.update(" ".join((*family.kinds, *(noun for _, noun in family.names))).split())
    words.update(" ".join(COLOURS).split())
    return frozenset(words)
