"""The embeddings between two prompts, and the noise that all frames of a walk share. Tensors only, no model."""

from __future__ import annotations

import torch
from torch import Tensor

CPU = torch.device("cpu")
NEARLY_PARALLEL = 0.9995


def slerp(start: Tensor, end: Tensor, fractions: Tensor, device: torch.device = CPU) -> Tensor:
    """Interpolate between two prompts' embeddings along the great circle, token by token.

    start, end: (tokens, width), or (..., width), on the CPU; fractions: (frames,) in [0, 1]. Returns (frames, tokens,
    width) in start's dtype, on `device` unless it has no double precision: exactly start at fraction 0 and exactly end
    at 1. Nearly parallel and antiparallel tokens are interpolated linearly, because the great circle is undefined
    there; CLIP's first token, for example, is the same for every prompt. A pooled embedding (width,) is one token.
    Source: K. Shoemake, Animating Rotation with Quaternion Curves, SIGGRAPH 1985.
    """
    # Double precision makes the result independent of the order of the sums.
    a, b = start.double(), end.double()
    along = fractions.double().reshape(-1, *[1] * (start.ndim - 1))
    dot = torch.nn.functional.cosine_similarity(a, b, dim=-1).clamp(-1, 1)  # (tokens,)
    curved = dot.abs() <= NEARLY_PARALLEL
    angle = torch.where(curved, dot.arccos(), 1.0)
    of_start = torch.where(curved, ((1 - along) * angle).sin() / angle.sin(), 1 - along)  # (frames, tokens)
    of_end = torch.where(curved, (along * angle).sin() / angle.sin(), along)
    if device.type == "mps":
        device = CPU
    # Two products and a sum have the same bits on every device. Large embeddings would keep a GPU waiting for the CPU.
    a, b, start, end, of_start, of_end = (one.to(device) for one in (a, b, start, end, of_start, of_end))
    frames = [
        start
        if fraction == 0
        else end
        if fraction == 1
        else (first[..., None] * a + last[..., None] * b).to(start.dtype)
        for fraction, first, last in zip(fractions.tolist(), of_start, of_end, strict=True)
    ]
    return torch.stack(frames)


def blend_masks(start: Tensor, end: Tensor, fractions: Tensor) -> Tensor:
    """The attention masks of the frames between two prompts: between the ends, a token of either prompt counts.

    start, end: (tokens,), 1 or true for each token that counts; fractions: (frames,). Returns (frames, tokens).
    """
    ends = fractions[:, None]
    return torch.where(ends == 0, start, torch.where(ends == 1, end, torch.maximum(start, end)))


def of_one_length(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors (tokens, ...) of one prompt each, the shorter one filled with zeros at its end."""
    tokens = max(len(start), len(end))
    filled = (torch.cat([one, one.new_zeros(tokens - len(one), *one.shape[1:])]) for one in (start, end))
    return next(filled), next(filled)


def nearer_first(start: Tensor, end: Tensor, fractions: Tensor) -> tuple[Tensor, Tensor]:
    """For each frame the embeddings of the nearer and of the farther prompt: (frames, ...) of each.

    start, end: (...) of one prompt each; fractions: (frames,) in [0, 1].
    """
    to_start = (fractions <= 0.5).reshape(-1, *[1] * start.ndim)
    return torch.where(to_start, start, end), torch.where(to_start, end, start)


def weight_of_farther(fractions: Tensor) -> Tensor:
    """The weight of the farther prompt, (frames,) float32 in [0, 0.5]. It is 0 at both ends.

    There, a weighted sum has the bits of the nearer prompt's own part, computed as for any other frame.
    """
    return torch.minimum(fractions, 1 - fractions).float()


def equal_generators(seed: int, frames: int) -> list[torch.Generator]:
    """One generator for each frame, all with the walk's seed: every frame draws the same noise.

    Frames with different noise would not flow into each other. The generators are on the CPU, because those of other
    devices return other numbers for the same seed.
    """
    return [torch.Generator("cpu").manual_seed(seed) for _ in range(frames)]
