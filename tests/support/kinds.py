"""Specs of all kinds of walks, and cards of models that render them."""

from datetime import UTC, datetime
from typing import Any, Final

from momalisa_api.store.clips import StoredClip
from momalisa_api.walks.spec import WalkSpec, spec_from_stored
from tests.support.factories import CARD

PICTURE: Final = {"picture": "ab" * 32, "crop": {"x": 0, "y": 0, "width": 48, "height": 32}}
STYLE_PICTURE: Final = {"picture": "cd" * 32, "crop": {"x": 1, "y": 2, "width": 9, "height": 7}}
COMMON: Final[dict[str, Any]] = {
    "width": 48,
    "height": 32,
    "model": "test-model",
    "revision": "1",
    "scope": "0" * 32,
    "frames": 5,
    "frame_ms": 40,
    "gif_there_and_back": False,
    "mp4_there_and_back": False,
}
OF_PROMPT: Final[dict[str, Any]] = {
    "prompt": "stained glass",
    "negative_prompt": "",
    "strength": 0.6,
    "seed": 7,
    "steps": 4,
    "guidance_scale": 4.0,
    "scheduler": "DDIMScheduler",
}
CLIP: Final[dict[str, Any]] = {"kind": "clip", "clip": "ef" * 32, "every": 2}
STORED_CLIP: Final = StoredClip(
    id="ef" * 32,
    key="uploads/k.mp4",
    ending="mp4",
    has_sound=True,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    expires_at=datetime(2026, 1, 2, tzinfo=UTC),
    seconds=10.0,
    width=64,
    height=36,
    frames=250,
)
CONTENTS: Final[dict[str, dict[str, Any]]] = {
    "into": {"kind": "into", "picture": PICTURE, "motion": "sway", "amplitude": 0.5},
    "restyle by a prompt": {"kind": "restyle", "picture": PICTURE, **OF_PROMPT},
    "restyle in a style": {"kind": "restyle", "picture": PICTURE, "style": "stained-glass"},
    "restyle like a picture": {"kind": "restyle", "picture": PICTURE, "style_picture": STYLE_PICTURE},
    "clip by a prompt": {**CLIP, **OF_PROMPT},
    "clip in a style": {**CLIP, "style": "stained-glass"},
    "clip like a picture": {**CLIP, "style_picture": STYLE_PICTURE},
    "apart": {"kind": "apart", "picture": PICTURE, "threshold": 0.5, "most": 20},
}


def spec_of_kind(name: str, **changes: Any) -> WalkSpec:
    """The spec of an entry of CONTENTS, with some of its fields changed."""
    return spec_from_stored({**COMMON, **CONTENTS[name], **changes}, 6)


def card_of(model: str, engine: str, *styles: dict[str, Any]) -> dict[str, Any]:
    """The card of a model that renders frames with an engine other than diffusion."""
    settings = {"num_inference_steps": 1, "max_steps": 1, "guidance_scale": 0.0, "scheduler": "none"}
    sizes = {"size_multiple": 2, "width": 32, "height": 32}
    return {**CARD, **settings, **sizes, "schedulers": ["none"], "model": model, "engine": engine, "styles": styles}
