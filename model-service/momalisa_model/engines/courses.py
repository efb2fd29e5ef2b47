"""How the frames of a request begin and end: between stops, from a picture to its restyled still, or along a clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from momalisa_model.engines.dip import Begin, Ends

# Which frames of a request, by their places in it. A micro-batch that is not full has its last one several times.
Places = Sequence[int]


@dataclass(frozen=True)
class Course:
    """begin: where frames begin; None: with noise alone.

    finish: changes their pictures, (frames, height, width, 3) in [0, 1], on the device.
    """

    begin: Callable[[Places], Begin | None] = lambda _: None
    finish: Callable[[Tensor, Places], Tensor] = lambda pictures, _: pictures


def between(ends: Ends | None, fractions: Sequence[float]) -> Course:
    """From one end of a leg to the other; without ends, from prompt to prompt."""
    return Course(lambda places: ends.begin([fractions[place] for place in places])) if ends else Course()


def restyled(latents: Tensor, lost: Tensor, strength: float, fractions: Sequence[float]) -> Course:
    """From a picture to its restyled still: the noise that it is denoised from grows evenly to `strength`.

    latents: of the picture, (...). lost: what the VAE loses of it, (height, width, 3): the picture less what its
    latents are decoded to. So the first frame is the picture itself, and what was lost fades out until the middle.
    """

    def begin(places: Places) -> Begin:
        along = _along(fractions, places)
        return Begin(latents.expand(len(along), *latents.shape), strength * along, strength)

    def finish(pictures: Tensor, places: Places) -> Tensor:
        share = (1 - 2 * _along(fractions, places).to(pictures)).clamp(min=0) ** 2
        return (pictures + share[:, None, None, None] * lost).clamp(0, 1)

    return Course(begin, finish)


def along_clip(latents_of: Callable[[int], Tensor], strength: float) -> Course:
    """Each picture of a clip with the same noise and strength. latents_of: of the picture at a place, (...)."""

    def begin(places: Places) -> Begin:
        latents = torch.stack([latents_of(place) for place in places])
        return Begin(latents, torch.full((len(places),), strength, dtype=torch.float64), strength)

    return Course(begin)


def _along(fractions: Sequence[float], places: Places) -> Tensor:
    return torch.tensor([fractions[place] for place in places], dtype=torch.float64)
