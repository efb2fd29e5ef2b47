"""Both ends of an interpolation must be the prompts, and all between must be on the great circle."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from momalisa_model.interpolation import blend_masks, equal_generators, slerp
from tests.support.second_device import second_device

numbers = st.floats(-30, 30, width=32)
embeddings = arrays(np.float32, (4, 8), elements=numbers).map(torch.from_numpy)
inner = st.floats(0.001, 0.999)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.numpy().tobytes() == b.numpy().tobytes()


@given(embeddings, embeddings, inner)
def test_both_ends_equal_the_prompts_bit_for_bit(start, end, between):
    """A stop must look like a picture of its prompt alone. Hypothesis also tries zeros and parallel tokens."""
    walked = slerp(start, end, torch.tensor([0.0, between, 1.0]))
    assert walked.shape == (3, 4, 8)
    assert same_bits(walked[0], start)
    assert same_bits(walked[2], end)
    assert walked.isfinite().all()


@given(embeddings, st.floats(0.25, 4), inner)
def test_parallel_tokens_are_interpolated_linearly(start, scale, between):
    """CLIP's first token is the same for every prompt; the great circle would give 0 / 0."""
    end = start * scale
    (walked,) = slerp(start, end, torch.tensor([between]))
    assert torch.allclose(walked, start * (1 - between) + end * between, atol=1e-4)


@given(embeddings, inner)
def test_antiparallel_tokens_are_interpolated_linearly(start, between):
    """There is no unique great circle between them, and sin(pi) is nearly zero."""
    (walked,) = slerp(start, -start, torch.tensor([between]))
    assert torch.allclose(walked, start * (1 - 2 * between), atol=1e-4)


@given(st.floats(0.05, 3.09), inner)
def test_other_tokens_follow_the_great_circle(angle, between):
    """Equal fractions are equal angles and lengths, unlike in linear interpolation."""
    start = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    end = torch.tensor([[np.cos(angle), np.sin(angle)]], dtype=torch.float64)
    (walked,) = slerp(start, end, torch.tensor([between], dtype=torch.float64))
    expected = torch.tensor([[np.cos(angle * between), np.sin(angle * between)]])
    assert torch.allclose(walked, expected, atol=1e-9)


@given(embeddings, embeddings, st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_a_fraction_is_independent_of_the_others(start, end, fractions):
    """A frame is a pure function of its recipe and its fraction."""
    together = slerp(start, end, torch.tensor(fractions, dtype=torch.float64))
    for fraction, walked in zip(fractions, together, strict=True):
        (alone,) = slerp(start, end, torch.tensor([fraction], dtype=torch.float64))
        assert same_bits(alone, walked)


@given(embeddings, embeddings, st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_the_sum_is_computed_on_the_device_with_the_same_bits(start, end, fractions):
    """Large embeddings would take the CPU longer than a GPU needs for the frames."""
    along = torch.tensor(fractions, dtype=torch.float64)
    with second_device() as second:
        there = slerp(start, end, along, second)
        assert there.device == second
        back = there.cpu()
    assert same_bits(back, slerp(start, end, along))


def test_half_precision_embeddings_keep_their_dtype():
    """On a GPU, the encoder returns float16, and the UNet expects it."""
    start, end = torch.randn(2, 4, 8).half()
    walked = slerp(start, end, torch.tensor([0.0, 0.5, 1.0]))
    assert walked.dtype == torch.float16
    assert same_bits(walked[2], end)


def test_a_seed_decides_the_noise_of_all_frames():
    """Another seed is another walk; the same seed is the same walk on every machine."""
    first, second = (torch.randn(4, generator=generator) for generator in equal_generators(7, 2))
    assert torch.equal(first, second)
    assert torch.equal(first, torch.randn(4, generator=torch.Generator().manual_seed(7)))
    assert not torch.equal(first, torch.randn(4, generator=equal_generators(8, 1)[0]))


def test_the_largest_seed_is_accepted():
    """The contract allows seeds of 32 bits."""
    assert len(equal_generators(2**32 - 1, 3)) == 3


def test_a_pooled_embedding_is_one_token_and_layers_are_apart():
    """SDXL has one vector for the whole prompt, and Krea 2 one for each token and layer."""
    start, end, along = torch.randn(2, 5, 3, 8)[0], torch.randn(5, 3, 8), torch.tensor([0.0, 0.3])
    layered = slerp(start, end, along)
    assert layered.shape == (2, 5, 3, 8)
    assert same_bits(layered[1, 4, 2], slerp(start[4, 2], end[4, 2], along)[1])


def test_a_token_of_either_prompt_counts_between_the_ends():
    """The mask of a frame at an end is that of its prompt."""
    start, end = torch.tensor([1, 1, 0]), torch.tensor([1, 0, 0])
    assert blend_masks(start, end, torch.tensor([0.0, 0.5, 1.0])).tolist() == [[1, 1, 0], [1, 1, 0], [1, 0, 0]]
