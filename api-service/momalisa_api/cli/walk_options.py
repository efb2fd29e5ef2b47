"""The names of a walk's options: those that commands take from their arguments, and `replay` from a film."""

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
_OF_STYLE: Final = (
    *("style", "prompt", "style_picture", "strength", "negative_prompt", "seed", "steps", "guidance_scale"),
)
# Of the commands of the other kinds, which all have a size and a model, too.
OF_KIND: Final = {
    "into": ("picture", "motion", "amplitude", "frames", "frame_ms"),
    "restyle": ("picture", *_OF_STYLE, "frames", "frame_ms"),
    "clip": ("clip", *_OF_STYLE),
    "apart": ("picture", "most", "threshold", "frames", "frame_ms"),
}
