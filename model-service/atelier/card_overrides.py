"""The fields of the atelier's model card that cannot be derived from its weights, as JSON.

`python -m atelier.card_overrides atelier > overrides.json`, then
`MOMALISA_MODEL_CARD=overrides.json momalisa-model card > card.json`.
"""

import json
import sys
from typing import Any, Final

from atelier.captions import vocabulary
from atelier.palette import COLOURS
from atelier.readme import WALKS
from atelier.sheet import GUIDANCE, STEPS

# Measured with bench/microbatch.py: the first frame takes less than 1.5 s with two replicas of one thread each.
MICRO_BATCH: Final = 5
# Name, title, prompt and strength of the styles for pictures: looked at on a landscape and on a painted scene.
CARD_STYLES: Final = (
    ("stained-glass", "Stained glass", "stained glass in blue, red and yellow", 0.4),
    ("paper-cut", "Paper cut", "paper cut outs in coral, teal and beige", 0.45),
    ("starry-sky", "Starry sky", "a starry sky in navy, gold and white", 0.4),
    ("waves", "Waves", "waves in navy, turquoise and white", 0.4),
    ("quilt", "Quilt", "a triangle quilt in orange, gold and brown", 0.45),
    ("suprematist", "Suprematist", "suprematist bars in red, black and white", 0.45),
    ("colour-field", "Colour field", "a colour field in orange and maroon", 0.4),
)


def card_overrides(model: str) -> dict[str, Any]:
    """The model card of `atelier` or `atelier-128`, without the fields that are derived from the weights."""
    return {
        "model": model,
        "styles": [dict(zip(("name", "title", "prompt", "strength"), style, strict=True)) for style in CARD_STYLES],
        "micro_batch": MICRO_BATCH,
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "about": {
            "title": "The atelier" if model == "atelier" else "The atelier at 128 pixels",
            "summary": "A small model that comes with MoMALisa and paints modern-art compositions in named colours.",
            "license": "Apache-2.0 for the weights, CC0 for the training pictures.",
            "commercial": True,
            "examples": WALKS,
            "limits": f"It knows only its own words: about twenty kinds of composition in {len(COLOURS)} colours. "
            "The letters of other words choose colours and a calm composition.",
            "words": sorted(vocabulary()),
        },
    }


if __name__ == "__main__":
    print(json.dumps(card_overrides(sys.argv[1]), indent=2))
