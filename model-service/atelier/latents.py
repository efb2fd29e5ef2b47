"""Latents from a fixed PCA of 8 x 8 x 3 patches: an encoder without training, so decoder and UNet train together."""

from dataclasses import dataclass
from random import Random
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atelier.captions import draw_caption
from atelier.painter import paint

PATCH: Final = 8
CHANNELS: Final = 12


def patches(pictures: Tensor) -> Tensor:
    """Cut pictures (n, 3, height, width) into patches (n, height / 8, width / 8, 192)."""
    n, colours, height, width = pictures.shape
    tiles = pictures.reshape(n, colours, height // PATCH, PATCH, width // PATCH, PATCH)
    return tiles.permute(0, 2, 4, 1, 3, 5).reshape(n, height // PATCH, width // PATCH, -1)


@dataclass(frozen=True)
class PatchPca:
    """A linear encoder. mean: (192,); basis: (192, 12), scaled so that each latent channel has unit variance."""

    mean: Tensor
    basis: Tensor

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures (n, 3, h, w) in [-1, 1] to latents (n, 12, h / 8, w / 8)."""
        return ((patches(pictures) - self.mean) @ self.basis).permute(0, 3, 1, 2).contiguous()

    def to(self, device: torch.device) -> "PatchPca":
        """The same encoder on another device."""
        return PatchPca(self.mean.to(device), self.basis.to(device))


def to_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """(n, h, w, 3) uint8 to (n, 3, h, w) float32 in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def fit_pca(seed: int = 0, pictures: int = 1500) -> PatchPca:
    """The encoder from the 12 largest principal components of the painter's pictures."""
    rng = Random(seed)
    drawn = [draw_caption(rng) for _ in range(pictures)]
    stack = np.stack([paint(c.family, c.colours, c.kind) for c in drawn])
    rows = patches(to_tensor(stack)).reshape(-1, 3 * PATCH * PATCH).double()
    mean = rows.mean(0)
    values, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    top = vectors[:, -CHANNELS:].flip(1) / values[-CHANNELS:].flip(0).sqrt()
    top *= top.sum(0).sign()
    return PatchPca(mean.float(), top.float())
