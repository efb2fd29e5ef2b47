"""The input of one training step (captions and their pictures), and the losses. No optimiser, no files."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPTextModel, CLIPTokenizer

from atelier.captions import Caption, draw_caption
from atelier.latents import PATCH, to_tensor
from atelier.painter import paint
from atelier.unknown_words import draw_unknown_caption

DROPPED_CAPTION_SHARE: Final = 0.1
UNKNOWN_CAPTION_SHARE: Final = 0.2
LATENT_NOISE: Final = 0.15
HIGH_NOISE_SKEW: Final = 0.5
MAX_STEPS: Final = 100_000_000


class HeldOutLeak(AssertionError):
    """A held-out caption was about to be used for training."""


@dataclass(frozen=True)
class TrainingBatch:
    """Captions and their pictures.

    token_ids: (n, 32) int64; pictures: (n, 3, size, size) float32 in [-1, 1].
    """

    token_ids: Tensor
    pictures: Tensor

    def to(self, device: torch.device) -> "TrainingBatch":
        """The same batch on another device."""
        return TrainingBatch(self.token_ids.to(device), self.pictures.to(device))


def paint_batch(
    tokenizer: CLIPTokenizer,
    rng: Random,
    count: int,
    variations: int = 1,
    size: int = 128,
    draw: Callable[[Random], Caption] = draw_caption,
) -> TrainingBatch:
    """Training pictures and their captions: one in five has random words, and one in ten is replaced by "".

    variations: layouts of each kind; 1 is only the fixed one. size: in pixels. draw: returns the other captions.
    Raises HeldOutLeak if a caption is held out.
    """
    captions = [draw_unknown_caption(rng) if rng.random() < UNKNOWN_CAPTION_SHARE else draw(rng) for _ in range(count)]
    if any(caption.held_out for caption in captions):
        raise HeldOutLeak("a held-out caption was drawn for training")
    painted = [paint(c.family, c.colours, c.kind, rng.randrange(variations), size) for c in captions]
    texts = ["" if rng.random() < DROPPED_CAPTION_SHARE else caption.text for caption in captions]
    return TrainingBatch(tokenize(tokenizer, texts), to_tensor(np.stack(painted)))


@dataclass(frozen=True)
class BatchSettings:
    """Everything that decides the batches of a training."""

    seed: int
    batch: int
    variations: int


class TrainingBatches(Dataset[tuple[int, TrainingBatch]]):
    """Batches by step number, which alone decides a batch, so that any process can paint it."""

    def __init__(self, tokenizer: CLIPTokenizer, settings: BatchSettings) -> None:
        self._tokenizer = tokenizer
        self._settings = settings

    def __getitem__(self, step: int) -> tuple[int, TrainingBatch]:
        """A seed for the random numbers of the step, and its batch."""
        rng = Random(f"{self._settings.seed}/{step}")
        return rng.getrandbits(48), paint_batch(self._tokenizer, rng, self._settings.batch, self._settings.variations)


def prefetched_batches(
    tokenizer: CLIPTokenizer, settings: BatchSettings, first_step: int, painters: int
) -> Iterable[Any]:
    """(seed, batch) for each step from first_step on.

    painters: number of processes that paint in advance; 0 paints in this one, on demand.
    """
    ahead: dict[str, Any] = {"prefetch_factor": 4, "multiprocessing_context": "spawn"} if painters else {}
    steps = range(first_step, first_step + MAX_STEPS)
    loader: DataLoader[Any] = DataLoader(
        TrainingBatches(tokenizer, settings), batch_size=None, sampler=steps, num_workers=painters, **ahead
    )
    return loader


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids (n, 32) int64, padded and truncated as in the pipeline."""
    limit = tokenizer.model_max_length
    found = tokenizer(texts, padding="max_length", max_length=limit, truncation=True, return_tensors="pt")
    ids: Tensor = found.input_ids
    return ids


def draw_timesteps(count: int, steps: int, generator: torch.Generator) -> Tensor:
    """One timestep from each of `count` strata (count,), more of them at high noise."""
    strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return (strata.pow(HIGH_NOISE_SKEW) * steps).long().clamp(max=steps - 1)


def velocity_loss(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    batch: TrainingBatch,
    latents: Tensor,
    alphas_cumprod: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Mean squared error of the predicted velocity. Source: Salimans and Ho, 2022, appendix D."""
    timesteps = draw_timesteps(len(latents), len(alphas_cumprod), generator).to(latents.device)
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    kept = alphas_cumprod.to(latents.device)[timesteps].view(-1, 1, 1, 1)
    signal, spread = kept.sqrt(), (1 - kept).sqrt()
    embeddings = text_encoder(batch.token_ids)[0]
    predicted = unet(signal * latents + spread * noise, timesteps, embeddings).sample
    return nn.functional.mse_loss(predicted, signal * noise - spread * latents)


def picture_loss(autoencoder: AutoencoderTiny, latents: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """(L1 plus half the L1 of the gradients, mean squared error of values in [0, 1]) of decoded latents."""
    painted = autoencoder.decode(latents).sample
    loss = (painted - pictures).abs().mean()
    for axis in (-1, -2):
        loss = loss + 0.5 * (painted.diff(dim=axis) - pictures.diff(dim=axis)).abs().mean()
    return loss, ((painted.detach().clamp(-1, 1) - pictures) / 2).square().mean()


def noisy_crops(pictures: Tensor, latents: Tensor, cells: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A square of cells x cells latents from each picture, with noise like that of the UNet, and its pixels.

    The decoder learns nearly as much from a quarter of a picture as from all of it.
    """
    noise = torch.randn(latents.shape, generator=generator) * LATENT_NOISE
    noisy = latents + noise.mul_(torch.rand((len(latents), 1, 1, 1), generator=generator)).to(latents.device)
    top, left = (int(torch.randint(0, latents.shape[-1] - cells + 1, (), generator=generator)) for _ in range(2))
    y, x, far = top * PATCH, left * PATCH, cells * PATCH
    return noisy[..., top : top + cells, left : left + cells], pictures[..., y : y + far, x : x + far]
