"""The names of a walk's options: those that `momalisa walk` takes from its arguments, and `replay` from a film."""

from typing import Final

OF_COMMAND: Final = (
    "stops",
    "model",
    "frames",
    "seed",
    "strength",
    "spacing",
    "effort",
    "steps",
    "guidance_scale",
    "negative_prompt",
    "width",
    "height",
    "scheduler",
    "frame_ms",
)
# The rest of a spec is the choice of the server.
OF_SPEC: Final = (*OF_COMMAND, "gif_there_and_back", "mp4_there_and_back")
