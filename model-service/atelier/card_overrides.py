"""The fields of the atelier's model card that cannot be derived from its weights, as JSON.

`python -m atelier.card_overrides > overrides.json`, then
`MOMALISA_MODEL_CARD=overrides.json momalisa-model card > card.json`.
"""

import json
from typing import Any, Final

from atelier.captions import vocabulary
from atelier.palette import COLOURS
from atelier.readme import WALKS
from atelier.sheet import GUIDANCE, STEPS

# Measured with bench/microbatch.py: the first frame takes less than 1.5 s with two replicas of one thread each.
MICRO_BATCH: Final = 5


def card_overrides() -> dict[str, Any]:
    """A model card without the fields that are derived from the weights."""
    return {
        "model": "atelier",
        "micro_batch": MICRO_BATCH,
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "about": {
            "title": "The atelier",
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
    print(json.dumps(card_overrides(), indent=2))
