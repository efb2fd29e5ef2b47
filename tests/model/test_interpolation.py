"""Interpolation is what a walk is: the ends must be the prompts, and the way between them must be the great circle."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from momalisa_model.interpolation import initial_latents, slerp

numbers = st.floats(-30, 30, width=32)
embeddings = arrays(np.float32, (4, 8), elements=numbers).map(torch.from_numpy)
inner = st.floats(0.001, 0.999)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.numpy().tobytes() == b.numpy().tobytes()


@given(embeddings, embeddings, inner)
def test_both_ends_are_the_prompts_bit_for_bit(start, end, between):
    """A stop shows what its prompt alone would; zeros and parallel tokens are among what hypothesis tries."""
    walked = slerp(start, end, torch.tensor([0.0, between, 1.0]))
    assert walked.shape == (3, 4, 8)
    assert same_bits(walked[0], start)
    assert same_bits(walked[2], end)
    assert walked.isfinite().all()


@given(embeddings, st.floats(0.25, 4), inner)
def test_tokens_that_point_the_same_way_are_mixed_in_a_straight_line(start, scale, between):
    """CLIP's first token is the same for every prompt: on the great circle this would be 0 / 0."""
    end = start * scale
    (walked,) = slerp(start, end, torch.tensor([between]))
    assert torch.allclose(walked, start * (1 - between) + end * between, atol=1e-4)


@given(embeddings, inner)
def test_tokens_that_point_opposite_ways_are_mixed_in_a_straight_line(start, between):
    """There is no shortest way round a circle's other side: any would be arbitrary, and sin(pi) is nearly zero."""
    (walked,) = slerp(start, -start, torch.tensor([between]))
    assert torch.allclose(walked, start * (1 - 2 * between), atol=1e-4)


@given(st.floats(0.05, 3.09), inner)
def test_other_tokens_go_along_the_great_circle(angle, between):
    """Equal fractions are equal angles, and the length stays: what sets slerp apart from a cross-fade."""
    start = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    end = torch.tensor([[np.cos(angle), np.sin(angle)]], dtype=torch.float64)
    (walked,) = slerp(start, end, torch.tensor([between], dtype=torch.float64))
    expected = torch.tensor([[np.cos(angle * between), np.sin(angle * between)]])
    assert torch.allclose(walked, expected, atol=1e-9)


@given(embeddings, embeddings, st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_a_fraction_gives_the_same_whatever_else_is_asked_for(start, end, fractions):
    """A frame is a pure function of its recipe and its fraction."""
    together = slerp(start, end, torch.tensor(fractions, dtype=torch.float64))
    for fraction, walked in zip(fractions, together, strict=True):
        (alone,) = slerp(start, end, torch.tensor([fraction], dtype=torch.float64))
        assert same_bits(alone, walked)


def test_half_precision_embeddings_keep_their_precision():
    """On a GPU the encoder speaks float16, and the UNet expects it."""
    start, end = torch.randn(2, 4, 8).half()
    walked = slerp(start, end, torch.tensor([0.0, 0.5, 1.0]))
    assert walked.dtype == torch.float16
    assert same_bits(walked[2], end)


def test_a_seed_is_one_noise_tensor():
    """Another seed is another walk; the same seed is the same walk on every machine."""
    noise = initial_latents(7, 12, 4, 6)
    assert noise.shape == (1, 12, 4, 6)
    assert noise.dtype == torch.float32
    assert torch.equal(noise, initial_latents(7, 12, 4, 6))
    assert not torch.equal(noise, initial_latents(8, 12, 4, 6))
    assert torch.equal(noise, torch.randn(1, 12, 4, 6, generator=torch.Generator().manual_seed(7)))


def test_the_largest_seed_is_a_seed():
    """The contract allows 32 bits; torch must take them all."""
    assert initial_latents(2**32 - 1, 4, 2, 2).isfinite().all()
