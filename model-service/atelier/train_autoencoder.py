"""Trains the autoencoder for 256 x 256 pictures, whose latents are those of the UNet. Continues a stopped training.

`python -m atelier.train_autoencoder --out DIR --minutes 60 --weights DIR/vae`
"""

import math
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import torch
from diffusers import AutoencoderTiny
from numpy.typing import NDArray
from torch import Tensor, nn

from atelier.captions import draw_caption
from atelier.latents import PATCH, PatchPca, fit_pca, to_tensor
from atelier.network import LARGE_FACTOR, build_large_autoencoder
from atelier.painter import coloured, cover, paint
from atelier.palette import COLOURS
from atelier.trainer import Trainer, train
from atelier.training import CROP_CELLS
from atelier.training_batches import LATENT_NOISE, picture_loss

LARGE_SIZE: Final = 256
# Photographs have other colours than the palette.
FREE_COLOURS_SHARE: Final = 0.35
PHOTO_SHARE: Final = 0.15
# Layouts of each kind of picture.
VARIATIONS: Final = 4


def draw_picture(rng: Random, size: int = LARGE_SIZE) -> NDArray[np.uint8]:
    """A training picture, (size, size, 3) uint8: of the painter, in named or other colours, or photo-like."""
    if rng.random() < PHOTO_SHARE:
        return _soft_picture(np.random.default_rng(rng.getrandbits(48)), size)
    caption = draw_caption(rng)
    count = len(caption.colours)
    shares = _cover(caption.family, caption.kind, count, rng.randrange(VARIATIONS), size)
    pots = np.array([COLOURS[name] for name in (*caption.colours, "black")], np.float32)
    if rng.random() < FREE_COLOURS_SHARE:
        pots = np.array([[rng.uniform(0, 255) for _ in range(3)] for _ in pots], np.float32)
    return coloured(shares, pots)


_covers: dict[tuple[Any, ...], NDArray[np.float16]] = {}


def _cover(family: str, kind: int, count: int, variation: int, size: int) -> NDArray[np.float32]:
    """`cover`, kept in half precision: a layout takes longer to draw than to train on."""
    key = (family, kind, count, variation, size)
    if key not in _covers:
        _covers[key] = cover(family, kind, count, variation, size).astype(np.float16)
    return _covers[key].astype(np.float32)


def _soft_picture(dice: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Random clouds of colour with some edges: what photographs have and the painter's pictures lack."""
    picture = np.zeros((size, size, 3))
    for octave in range(2, 7):
        grid = torch.from_numpy(dice.normal(size=(1, 3, 2**octave, 2**octave)))
        smooth = nn.functional.interpolate(grid, size=(size, size), mode="bicubic", align_corners=False)[0]
        # Light varies more than colour.
        smooth = smooth[:1] + dice.uniform(0.1, 0.6) * smooth[1:].repeat(2, 1, 1)[:3]
        picture += smooth.permute(1, 2, 0).numpy() / 2**octave
    spread = dice.uniform(20, 60)
    picture = dice.uniform(70, 180, 3) + spread * (picture - picture.mean()) / (picture.std() + 1e-6)
    line = np.arange(size)
    angle, offset = dice.uniform(0, 2 * math.pi), dice.uniform(-0.3, 0.3) * size
    side = np.cos(angle) * (line[None] - size / 2) + np.sin(angle) * (line[:, None] - size / 2) > offset
    picture = np.where(side[..., None], picture + dice.normal(0, 40, 3), picture)
    pixels: NDArray[np.uint8] = picture.clip(0, 255).astype(np.uint8)
    return pixels


def latents_of(pca: PatchPca, pictures: Tensor) -> Tensor:
    """The latents of pictures (n, 3, 256, 256): those that the UNet knows, of half the size. (n, 12, 16, 16)."""
    return pca.encode(nn.functional.avg_pool2d(pictures, LARGE_FACTOR // PATCH))


class AutoencoderTraining(Trainer):
    """The decoder learns from noisy latents, as the UNet paints them, and the encoder from those of the PCA."""

    def __init__(self, out: Path, minutes: float, batch: int, start: Path | None) -> None:
        """start: the autoencoder of half the size, whose decoder is taken over."""
        torch.manual_seed(0)
        self.batch, self.pca = batch, fit_pca(0)
        network = build_large_autoencoder()
        if start:
            _copy_smaller(AutoencoderTiny.from_pretrained(start), network)
        super().__init__(network, build_large_autoencoder(), out / "autoencoder.pt", minutes, rate=1e-3)

    def loss(self) -> Tensor:
        """The loss of the batch of the current step."""
        rng, generator = Random(f"autoencoder/{self.step}"), torch.Generator().manual_seed(self.step)
        pictures = to_tensor(np.stack([draw_picture(rng) for _ in range(self.batch)]))
        latents = latents_of(self.pca, pictures)
        noise = torch.randn(latents.shape, generator=generator) * LATENT_NOISE
        noisy = latents + noise * torch.rand((len(latents), 1, 1, 1), generator=generator)
        top, left = (rng.randrange(latents.shape[-1] - CROP_CELLS + 1) for _ in range(2))
        y, x, far = top * LARGE_FACTOR, left * LARGE_FACTOR, CROP_CELLS * LARGE_FACTOR
        pixels = pictures[..., y : y + far, x : x + far]
        part = (..., slice(top, top + CROP_CELLS), slice(left, left + CROP_CELLS))
        loss, _ = picture_loss(self.network, noisy[part], pixels)
        return loss + nn.functional.mse_loss(self.network.encode(pixels[:4]).latents, latents[:4][part])

    @torch.inference_mode()
    def figure(self) -> str:
        """Peak signal-to-noise ratio of 64 decoded held-out pictures, all their pixels together, in dB."""
        rng = Random(99)
        drawn = [draw_caption(rng, from_held_out=True) for _ in range(64)]
        pictures = to_tensor(np.stack([paint(c.family, c.colours, c.kind, size=LARGE_SIZE) for c in drawn]))
        parts = torch.split(latents_of(self.pca, pictures), 8)
        decoded = torch.cat([self.average.decode(part).sample.clamp(-1, 1) for part in parts])
        return f"{float(-10 * torch.log10(((decoded - pictures) / 2).square().mean())):.2f} dB"


def _copy_smaller(small: AutoencoderTiny, large: AutoencoderTiny) -> None:
    """Start the decoder from one for half the size: the layers that both have, in their order."""
    theirs, ours = small.decoder.layers.state_dict(), large.decoder.layers.state_dict()
    shared = {name: value for name, value in theirs.items() if name in ours and ours[name].shape == value.shape}
    large.decoder.layers.load_state_dict(ours | shared)


if __name__ == "__main__":
    train(__doc__, 8, lambda given: AutoencoderTraining(given.out, given.minutes, given.batch, given.start))
