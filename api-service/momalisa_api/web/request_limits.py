"""The limits of the fields of requests on a deployment, as JSON Schema has them."""

from typing import Any, Final

from momalisa_api.settings import Settings

# The widest limits of the model contract: those of a model are in its card.
MIN_SIDE_PX: Final = 8
MAX_SIDE_PX: Final = 8192
MOST_STEPS: Final = 1000
MAX_SCHEDULER_CHARS: Final = 100
# What a prompt must have, as JSON Schema: no NUL; and something that is not white space.
NOT_BLANK: Final = r"^[^\u0000]*[^\s\u0000-\u001f\u0085][^\u0000]*$"


def limits(settings: Settings) -> dict[str, dict[str, Any]]:
    """The limits of a request's fields on this deployment, by field, as keywords of JSON Schema.

    Each model has its own sizes, steps and schedulers, so that those here are the widest of the model contract. What
    JSON Schema cannot say is missing: a walk has at least one frame for each stop.
    """
    prompt = {"pattern": NOT_BLANK, "maxLength": settings.max_prompt_chars}
    stops = {"minItems": 2, "maxItems": settings.max_stops, "items": prompt}
    side = {"minimum": MIN_SIDE_PX, "maximum": MAX_SIDE_PX}
    return {
        "start": prompt,
        "end": prompt,
        "stop": stops,
        "stops": stops,
        "prompt": {"maxLength": settings.max_prompt_chars},
        "negative_prompt": {"maxLength": settings.max_prompt_chars},
        "frames": {"maximum": settings.max_frames},
        "size": side,
        "width": side,
        "height": side,
        "steps": {"maximum": MOST_STEPS},
        "scheduler": {"minLength": 1, "maxLength": MAX_SCHEDULER_CHARS},
    }
