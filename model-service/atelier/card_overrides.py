"""What only the atelier knows of its model card, as JSON; `momalisa-model card` fills in what the weights say.

`python -m atelier.card_overrides > overrides.json`, then
`MOMALISA_MODEL_CARD=overrides.json momalisa-model card > card.json`.
"""

import json
from typing import Any, Final

from atelier.captions import vocabulary
from atelier.palette import COLOURS
from atelier.readme import WALKS
from atelier.sheet import GUIDANCE, STEPS

# Chosen by bench/microbatch.py: two replicas of one thread each, a first frame well within 1.5 s.
MICRO_BATCH: Final = 5


def card_overrides() -> dict[str, Any]:
    """A model card without the fields that follow from the weights."""
    return {
        "model": "atelier",
        "micro_batch": MICRO_BATCH,
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "about": {
            "title": "The atelier",
            "summary": "A small model that comes with MoMALisa and paints modern-art compositions in named colours.",
            "license": "Apache-2.0 for the weights, CC0 for the pictures they learnt from.",
            "examples": WALKS,
            "limits": f"It knows its own words alone: some twenty kinds of composition in {len(COLOURS)} colours. "
            "For words that it does not know, their letters choose colours and a calm composition.",
            "words": sorted(vocabulary()),
        },
    }


if __name__ == "__main__":
    print(json.dumps(card_overrides(), indent=2))
