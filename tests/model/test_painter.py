"""The painter is deterministic, paints any size, follows its captions, and keeps held-out captions from training."""

from random import Random

import numpy as np
import pytest

from atelier import captions, painter, training_batches
from atelier.captions import Caption, draw_caption, held_out, phrase
from atelier.classifier import MIN_SHARE, share_of
from atelier.families import FAMILIES
from atelier.palette import COLOURS, are_distinct
from atelier.tokenizer import build_tokenizer
from atelier.unknown_words import COMPOSITIONS, PALETTES, draw_unknown_caption, substitute_caption, unknown_words_of

EVERY_LAYOUT = [(name, count, kind) for name, family in FAMILIES.items() for count in family.counts for kind in (0, 1)]


@pytest.mark.parametrize(("family", "count", "kind"), EVERY_LAYOUT)
def test_every_family_shows_every_colour_of_its_caption(family: str, count: int, kind: int) -> None:
    """Captions with colours that are not in the picture would teach the model to ignore colours."""
    colours = ("red", "sky blue", "white", "purple")[:count]
    picture = painter.paint(family, colours, kind)
    assert picture.shape == (128, 128, 3)
    assert all(share_of(picture, colour) >= MIN_SHARE for colour in colours)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_two_layouts_of_a_family_differ(family: str) -> None:
    """Otherwise the words for layouts would have no meaning."""
    colours = ("red", "sky blue", "white")
    assert (painter.paint(family, colours, 0) != painter.paint(family, colours, 1)).mean() > 0.05


@pytest.mark.parametrize("variation", [0, 5])
def test_a_picture_is_the_same_every_time(variation: int) -> None:
    """Training resumes from its step number alone, so painting must not have state."""
    first, again = (painter.paint("stars", ("red", "white"), 1, variation) for _ in range(2))
    assert (first == again).all()


def test_variations_have_different_layouts() -> None:
    """Training on a faster device can use many layouts."""
    one, other = (painter.paint("stained glass", ("red", "white"), 0, variation) for variation in (1, 2))
    assert (one != other).any()


@pytest.mark.parametrize("size", [32, 96, 256])
def test_a_picture_of_another_size_is_the_same_picture(size: int) -> None:
    """Scaled to the same size, both look the same."""
    small, large = (painter.paint("spiral", ("red", "white"), 0, size=s) for s in (size, 2 * size))
    averaged = large.reshape(size, 2, size, 2, 3).mean(axis=(1, 3))
    assert np.abs(averaged - small).mean() < 4


def test_edges_are_smooth() -> None:
    """A disc in two colours has many shades between them."""
    assert len(np.unique(painter.paint("circles", ("black", "white"))[..., 0])) > 10


def test_held_out_captions_never_come_from_the_training_side() -> None:
    """Otherwise the evaluation would measure memory."""
    rng = Random(0)
    drawn = [draw_caption(rng) for _ in range(3000)]
    assert not any(held_out(caption.family, caption.colours) for caption in drawn)
    kept = [draw_caption(rng, from_held_out=True) for _ in range(100)]
    assert all(caption.held_out for caption in kept)


def test_a_held_out_caption_stops_the_training() -> None:
    """The training checks each caption, whatever function returned it."""
    leak = draw_caption(Random(0), from_held_out=True)
    with pytest.raises(training_batches.HeldOutLeak):
        training_batches.paint_batch(build_tokenizer(), Random(0), 1, draw=lambda _: leak)


def test_one_pairing_in_ten_is_held_out() -> None:
    """The split is decided by a hash, so the share is not exact."""
    pairings = [(family, (a, b)) for family in FAMILIES for a in COLOURS for b in COLOURS if a != b]
    assert 0.08 < sum(held_out(*pairing) for pairing in pairings) / len(pairings) < 0.12


def test_captions_contain_known_words_only() -> None:
    """The gallery lists these words as those that the model knows."""
    rng, known = Random(1), captions.vocabulary()
    for _ in range(500):
        words = draw_caption(rng).text.replace(",", "").split()
        assert known.issuperset(words), words


def test_captions_name_colours_in_order() -> None:
    """The ground comes last; 'red on white' is not 'white on red'."""
    rng = Random(2)
    for _ in range(50):
        text = phrase("spiral", ("red", "white"), 0, rng)
        assert text.index("red") < text.index("white")


def test_an_unknown_colour_is_refused() -> None:
    """Painting another colour instead would hide the mistake."""
    with pytest.raises(KeyError):
        painter.paint("spiral", ("red", "octarine"))


def test_the_split_depends_on_family_and_colours_only() -> None:
    """Two phrasings of one picture must be on the same side."""
    one, other = (Caption("grid", ("red", "white"), kind, f"text {kind}") for kind in (0, 1))
    assert one.held_out == other.held_out


def test_an_unknown_word_has_a_picture_of_its_own():
    """Its letters decide: the same word is the same picture, and another word another one."""
    giraffe, battleship = substitute_caption("a giraffe"), substitute_caption("A painting of the BATTLESHIP")
    assert substitute_caption("the giraffe") == Caption(giraffe.family, giraffe.colours, giraffe.kind, "the giraffe")
    assert (giraffe.family, giraffe.kind, giraffe.colours) != (battleship.family, battleship.kind, battleship.colours)
    assert substitute_caption("a navy giraffe").colours[0] == "navy"
    with pytest.raises(ValueError, match="no unknown word"):
        substitute_caption("a red spiral on white")


def test_every_letter_has_distinct_colours():
    """Every composition must accept this number of colours."""
    assert len(PALETTES) == 26
    assert all(are_distinct(palette) for palette in PALETTES)
    assert all(len(PALETTES[0]) in FAMILIES[family].counts for family, _ in COMPOSITIONS)


def test_captions_of_unknown_words_are_from_the_training_side():
    """The evaluation uses held-out ones."""
    rng = Random(0)
    captions = [draw_unknown_caption(rng) for _ in range(500)]
    assert not any(caption.held_out for caption in captions)
    assert all(unknown_words_of(caption.text) for caption in captions)
    ends = {(words[0][0], words[-1][-1]) for caption in captions if (words := unknown_words_of(caption.text))}
    assert {first for first, _ in ends} >= set("abcdefghijklmnopqrstuvw")
