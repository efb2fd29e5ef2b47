"""What a micro-batch costs the CPU before the first denoising step: weights of the slerp, its sums, and the noise.

    python bench/interpolation.py [--micro-batch 16]

CPU milliseconds of one thread for a micro-batch. On a GPU, the sums are computed there. For the atelier, the share of
the time of a micro-batch is printed too, with the sums.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import process_time

import torch
from diffusers.utils.torch_utils import randn_tensor
from sampler import recipe_for

from momalisa_model.cancellation import never
from momalisa_model.interpolation import equal_generators, slerp
from momalisa_model.lifecycle import load_model
from momalisa_model.settings import Settings

CPU = torch.device("cpu")
RUNS = 3
# Tokens and width of the embeddings, and latents of a frame, at the usual sizes.
SHAPES = {
    "Stable Diffusion 1.5": ((77, 768), (4, 64, 64)),
    "SDXL": ((77, 2048), (4, 128, 128)),
    "FLUX.1": ((512, 4096), (16, 128, 128)),
    "FLUX.2-klein": ((512, 7680), (32, 128, 128)),
    "Z-Image": ((128, 2560), (16, 128, 128)),
}


def milliseconds(work: Callable[[], object]) -> float:
    work()
    began = process_time()
    for _ in range(RUNS):
        work()
    return (process_time() - began) / RUNS * 1000


def costs(embedding: tuple[int, int], latents: tuple[int, ...], frames: int) -> tuple[float, float, float]:
    """Of the weights, of the sums, and of the noise, in milliseconds."""
    start, end = (torch.randn(embedding, dtype=torch.bfloat16) for _ in range(2))
    along = torch.linspace(0.1, 0.9, frames, dtype=torch.float64)
    one, many = (milliseconds(lambda along=along: slerp(start, end, along)) for along in (along[:1], along))
    each = (many - one) / (frames - 1)
    generators = equal_generators(7, frames)
    noise = milliseconds(lambda: randn_tensor((frames, *latents), generator=generators, device=CPU))
    return one - each, frames * each, noise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micro-batch", type=int, default=16)
    frames = parser.parse_args().micro_batch
    ready = load_model(Settings(threads=1))
    print(f"one thread, {frames} frames: CPU ms of   weights     sums    noise")
    for name, (embedding, latents) in SHAPES.items():
        print(f"{name:32}" + "".join(f"{part:9.1f}" for part in costs(embedding, latents, frames)))
    card, recipe = ready.answer.card, recipe_for(ready)
    sampler, leg = ready.engine.sampler, ready.engine.sampler.encode(recipe)
    along = [place / card.micro_batch for place in range(card.micro_batch)]
    whole = milliseconds(lambda: sampler.pictures(recipe, leg, along, never))
    tokens, width = leg.start["prompt_embeds"].shape
    before = sum(costs((tokens, width), (4, card.height // 8, card.width // 8), card.micro_batch))
    print(f"{card.model}: {before:.2f} of {whole:.0f} ms of a micro-batch of {card.micro_batch} ({before / whole:.3%})")


if __name__ == "__main__":
    main()
