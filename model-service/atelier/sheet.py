"""Contact sheets of the painter and of the model for the same captions; those with unknown words are last.

`python -m atelier.sheet --weights DIR --docs DIR` creates both for the documentation.
"""

import argparse
from pathlib import Path
from random import Random
from typing import Final

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from atelier.captions import Caption, held_out, phrase
from atelier.export import load_weights
from atelier.families import FAMILIES
from atelier.painter import Picture, paint
from atelier.palette import COLOURS, are_distinct
from atelier.unknown_words import UNKNOWN_PHRASES, substitute_caption

STEPS: Final = 12
GUIDANCE: Final = 4.0
SHEET_COLUMNS: Final = 14


def sheet_captions(seed: int = 7, held_out_only: bool = True) -> list[Caption]:
    """One caption for each layout of each family, by default held-out ones."""
    rng = Random(seed)
    captions = []
    for name, family in FAMILIES.items():
        for kind in (0, 1):
            while True:
                colours = tuple(rng.sample(tuple(COLOURS), rng.choice(family.counts)))
                if are_distinct(colours) and held_out(name, colours) is held_out_only:
                    break
            captions.append(Caption(name, colours, kind, phrase(name, colours, kind, rng)))
    return captions


def paint_captions(captions: list[Caption]) -> list[Picture]:
    """The painter's pictures of these captions."""
    return [paint(caption.family, caption.colours, caption.kind) for caption in captions]


def sample_images(
    pipeline: StableDiffusionPipeline, texts: list[str], seed: int = 0, steps: int = STEPS, guidance: float = GUIDANCE
) -> list[Image.Image]:
    """The model's pictures of these texts, each from other noise."""
    images: list[Image.Image] = []
    for start in range(0, len(texts), 14):
        some = texts[start : start + 14]
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(some))]
        images += pipeline(some, num_inference_steps=steps, guidance_scale=guidance, generator=generators).images
    return images


def lay_out(images: list[Image.Image], columns: int, gap: int = 4) -> Image.Image:
    """One image with rows of pictures on white. gap: in pixels."""
    width, height = images[0].size
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for i, image in enumerate(images):
        sheet.paste(image, ((i % columns) * (width + gap), (i // columns) * (height + gap)))
    return sheet


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Save as a PNG with a palette: a small file with sharp edges."""
    sheet.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="folder of the pipeline")
    parser.add_argument("--docs", type=Path, required=True, help="folder to write painter.png and atelier.png to")
    options = parser.parse_args()
    captions = [*sheet_captions(), *map(substitute_caption, UNKNOWN_PHRASES[:SHEET_COLUMNS])]
    save_sheet(
        lay_out([Image.fromarray(picture) for picture in paint_captions(captions)], SHEET_COLUMNS),
        options.docs / "painter.png",
    )
    pipeline = load_weights(options.weights)
    images = sample_images(pipeline, [caption.text for caption in captions])
    save_sheet(lay_out(images, SHEET_COLUMNS), options.docs / "atelier.png")


if __name__ == "__main__":
    _main()
