"""The committed weights are small, safe, and compatible with diffusers, and paint captions they were not trained on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from atelier.captions import held_out
from atelier.classifier import share_of
from atelier.export import load_weights

WEIGHTS = Path(__file__).resolve().parents[2] / "model-service" / "atelier" / "weights"


@pytest.fixture(scope="module")
def pipeline() -> Iterator[StableDiffusionPipeline]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_weights(WEIGHTS)
    torch.set_num_threads(threads)


def test_the_weights_are_small_and_safe() -> None:
    """They are part of every clone, and a pickle could run any code."""
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40e6
    assert max(path.stat().st_size for path in files) <= 10e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md"}


def test_a_held_out_caption_shows_its_colours(pipeline: StableDiffusionPipeline) -> None:
    """The model has learnt the meaning of colours, not a list of pictures."""
    colours = ("orange", "navy")
    assert held_out("circles", colours)
    image = pipeline(
        "concentric circles in orange and navy",
        num_inference_steps=12,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(0),
    ).images[0]
    assert image.size == (256, 256)
    assert all(share_of(np.asarray(image), colour) > 0.1 for colour in colours)


def test_the_autoencoder_encodes_and_decodes_a_picture(pipeline: StableDiffusionPipeline) -> None:
    """The encoder is part of the weights and must fit the decoder."""
    ramp = torch.linspace(-1, 1, 256).expand(1, 3, 256, 256)
    with torch.inference_mode():
        again = pipeline.vae.decode(pipeline.vae.encode(ramp).latents).sample
    assert (again - ramp).abs().mean() < 0.2


@pytest.mark.parametrize("text", ["", "a giraffe 🦒", "漢字 \n ../ <b>", "a" * 1000])
def test_any_text_can_be_painted(pipeline: StableDiffusionPipeline, text: str) -> None:
    """Visitors may write any text."""
    image = pipeline(text, num_inference_steps=1, guidance_scale=4.0).images[0]
    assert image.size == (256, 256)
