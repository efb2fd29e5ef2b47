"""The README of the weights: what they are, how they were trained, what was measured, and which walks look good."""

import json
from pathlib import Path
from typing import Any, Final

from atelier.families import FAMILIES
from atelier.palette import COLOURS

TRAINING, FIGURES = "training.json", "figures.json"

WALKS: Final[tuple[tuple[str, str], ...]] = (
    ("a rising sunburst in red and yellow", "a wide spiral in blue and white"),
    ("a white and yellow flower on magenta", "a target in turquoise and navy"),
    ("a stacked colour field in orange and maroon", "a morning landscape with a sun, gold, teal and beige"),
    ("a dense grid in red, blue and white", "stained glass in yellow, turquoise and purple"),
    ("large stars, yellow on navy", "small dots in rows, coral on black"),
    ("calm waves in teal and mint", "wide chevrons in black and gold"),
    ("a straight checkerboard in black and white", "large tiles of circles in red, beige and teal"),
    ("slanted stripes in magenta and yellow", "a narrow spiral in maroon and gold"),
    ("large overlapping discs in red and sky blue on white", "a central sunburst in purple and lime"),
    ("large half circles in orange and navy", "large triangles in mint and magenta"),
    ("a rainbow in orange, lime and sky blue", "a large flower in purple and white on pink"),
    ("rising suprematist bars in red and black on beige", "large paper cut outs in blue on white"),
)

TEMPLATE: Final = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# The atelier

A Stable Diffusion pipeline of {megabytes:.0f} MB that paints modern-art compositions of 128 x 128 pixels: named
families in named colours. It is part of MoMALisa, so that walks need no download. It loads like any other:

    StableDiffusionPipeline.from_pretrained("weights", dtype=torch.float32, use_safetensors=True)

Use its own scheduler, 8 to 12 steps, and a guidance scale of 3 to 4.

## Known words

- Families: {families}.
- Colours: {colours}. Their order matters: the ground is the last one.
- Layouts, before the family ("a wide spiral"): {kinds}.

Other words are unknown. Their letters choose the picture: the first letter of the first unknown word a palette, the
last letter of the last one a calm composition (`atelier/unknown_words.py`). Colours in the prompt still count.

## Walks that look good

{walks}

## Data

Pictures by `atelier/painter.py`, in two layouts per family, with captions by `atelier/captions.py`. They are free of
rights (CC0). One pairing of family and colours in ten (SHA-256 modulo 10 is 0) was held out from training. One caption
in five has random words, so that the model learns what to paint for unknown ones.

## Training

UNet of 9.4 M weights over latents of 16 x 16 x 12, CLIP-style text encoder of two layers, tiny autoencoder. The latents
are a fixed PCA of 8 x 8 x 3 patches, which the autoencoder's encoder has learnt to reproduce. v-prediction, cosine
schedule, timesteps skewed to high noise, captions dropped one time in ten, AdamW at 1e-3 falling over the last half,
moving average .997, float32.

To train from scratch, or continue a training: `python -m atelier.train --out DIR --minutes 120 --weights DIR`

Samples seen: {samples:,} in {hours:.1f} hours; velocity loss {loss:.3f}.

## Figures

{figures}

## Licence

Apache-2.0 for the weights, CC0 for the training pictures.
"""


def _figure_lines(folder: Path) -> str:
    if not (folder / FIGURES).exists():
        return "Not measured yet; run `make atelier-eval`."
    measured: dict[str, Any] = json.loads((folder / FIGURES).read_text())
    lines = [
        f"`make atelier-eval` measured over HTTP: {measured['recipe']}.",
        "The other columns are the painter's own pictures, and the model's pictures with shuffled captions.",
        "",
        "| figure | atelier | painter | shuffled |",
        "|---|---|---|---|",
    ]
    for name, values in measured["figures"].items():
        cells = [f"{value:.2f}" for value in values] + [""] * (3 - len(values))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_readme(folder: Path) -> None:
    """Write README.md of a folder from its weights, training record and figures."""
    training: dict[str, Any] = json.loads((folder / TRAINING).read_text())
    kinds = "; ".join(f"{' or '.join(family.kinds)} {name}" for name, family in FAMILIES.items())
    text = TEMPLATE.format(
        megabytes=sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 1e6,
        families=", ".join(noun for family in FAMILIES.values() for _, noun in family.names),
        colours=", ".join(COLOURS),
        kinds=kinds,
        walks="\n".join(f"- {start} → {end}" for start, end in WALKS),
        samples=training["samples"],
        hours=training["spent_s"] / 3600,
        loss=training["loss"],
        figures=_figure_lines(folder),
    )
    (folder / "README.md").write_text(text)
