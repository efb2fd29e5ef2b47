"""Evaluates pictures: do they show the requested family and the named colours?"""

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from atelier.captions import Caption, draw_caption
from atelier.families import FAMILIES
from atelier.latents import to_tensor
from atelier.painter import Picture
from atelier.palette import COLOURS
from atelier.sheet import paint_captions

MAX_COLOUR_DISTANCE: Final = 60.0
MIN_SHARE: Final = 0.01


def share_of(picture: Picture, colour: str) -> float:
    """The share of pixels whose RGB distance from the named colour is below MAX_COLOUR_DISTANCE."""
    gaps = picture.astype(np.float32) - np.array(COLOURS[colour], np.float32)
    return float((np.sqrt((gaps**2).sum(-1)) < MAX_COLOUR_DISTANCE).mean())


def colours_present(pictures: Sequence[Picture], captions: Sequence[Caption]) -> float:
    """The share of named colours that cover at least MIN_SHARE of their picture."""
    found = [
        share_of(picture, colour) >= MIN_SHARE
        for picture, caption in zip(pictures, captions, strict=True)
        for colour in caption.colours
    ]
    return sum(found) / len(found)


class FamilyClassifier(nn.Module):
    """Recognises families: pictures (n, 3, 128, 128) in [-1, 1] to scores (n, families)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 96, 96)
        layers: list[nn.Module] = [nn.AvgPool2d(2)]
        for narrow, wide in pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 3, 2, 1), nn.GroupNorm(8, wide), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 16, len(FAMILIES)))

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (n, 3, 128, 128) in [-1, 1] to scores (n, families)."""
        scores: Tensor = self.layers(pictures)
        return scores


def train_classifier(pictures: int = 6000, batch: int = 40, seed: int = 1) -> FamilyClassifier:
    """Train a classifier on pictures of the painter, with noise, so that it accepts blurred edges."""
    torch.manual_seed(seed)
    rng, classifier, names = Random(seed), FamilyClassifier(), list(FAMILIES)
    optimiser = torch.optim.AdamW(classifier.parameters(), 2e-3)
    for _ in range(pictures // batch):
        captions = [draw_caption(rng) for _ in range(batch)]
        shown = to_tensor(np.stack(paint_captions(captions)))
        shown = shown + torch.randn_like(shown) * 0.2 * torch.rand(batch, 1, 1, 1)
        labels = torch.tensor([names.index(caption.family) for caption in captions])
        optimiser.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(classifier(shown), labels))
        optimiser.step()
    return classifier.eval()


@torch.inference_mode()
def family_accuracy(classifier: FamilyClassifier, pictures: Sequence[Picture], captions: Sequence[Caption]) -> float:
    """The share of pictures that the classifier assigns to the family of their caption."""
    names = list(FAMILIES)
    predicted: list[int] = classifier(to_tensor(np.stack(pictures))).argmax(1).tolist()
    right = sum(names[i] == caption.family for i, caption in zip(predicted, captions, strict=True))
    return right / len(captions)
