"""The embeddings between two prompts, and the noise that all frames of a walk share. Tensors only, no model."""

from __future__ import annotations

import torch
from torch import Tensor

NEARLY_PARALLEL = 0.9995


def slerp(start: Tensor, end: Tensor, fractions: Tensor) -> Tensor:
    """Interpolate between two prompts' embeddings along the great circle, token by token.

    start, end: (tokens, width); fractions: (frames,) in [0, 1]. Returns (frames, tokens, width) in start's dtype:
    exactly start at fraction 0 and exactly end at 1. Nearly parallel and antiparallel tokens are interpolated linearly,
    because the great circle is undefined there; CLIP's first token, for example, is the same for every prompt.
    For pooled embeddings, pass (1, width) and the same fractions.
    Source: K. Shoemake, Animating Rotation with Quaternion Curves, SIGGRAPH 1985.
    """
    # Double precision costs nothing at this size, and makes the result independent of the order of the sums.
    a, b, along = start.double(), end.double(), fractions.double()[:, None]
    dot = torch.nn.functional.cosine_similarity(a, b, dim=-1).clamp(-1, 1)  # (tokens,)
    curved = dot.abs() <= NEARLY_PARALLEL
    angle = torch.where(curved, dot.arccos(), 1.0)
    of_start = torch.where(curved, ((1 - along) * angle).sin() / angle.sin(), 1 - along)  # (frames, tokens)
    of_end = torch.where(curved, (along * angle).sin() / angle.sin(), along)
    mixed = (of_start[..., None] * a + of_end[..., None] * b).to(start.dtype)
    ends = fractions[:, None, None]
    return torch.where(ends == 0, start, torch.where(ends == 1, end, mixed))


def nearer_first(start: Tensor, end: Tensor, fractions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each frame the embeddings of the nearer and of the farther prompt, and the weight of the farther one.

    start, end: (tokens, width); fractions: (frames,) in [0, 1]. The weights are (frames,) float32 in [0, 0.5], and 0 at
    both ends: there, a weighted sum has the bits of the nearer prompt's own part, computed as for any other frame.
    """
    to_start = (fractions <= 0.5)[:, None, None]
    nearer, farther = torch.where(to_start, start, end), torch.where(to_start, end, start)
    return nearer, farther, torch.minimum(fractions, 1 - fractions).float()


def initial_latents(seed: int, channels: int, height: int, width: int) -> Tensor:
    """The noise of a walk: (1, channels, height, width) float32, in latent pixels, on the CPU.

    All frames share it, because frames with different noise would not flow into each other. It is generated on the
    CPU, because the generators of other devices return other numbers for the same seed.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn((1, channels, height, width), generator=generator, dtype=torch.float32)
