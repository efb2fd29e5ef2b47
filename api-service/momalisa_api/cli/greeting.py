"""What `momalisa up` prints when it is ready: the addresses to visit, and commands to try."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from momalisa_api.cli.server_arguments import DEFAULT_URL

# The commands of the other kinds of walks, as a first try.
COMMANDS: Final = {
    "into": "into photo.jpg",
    "restyle": "restyle photo.jpg --style {style}",
    "clip": "clip film.mp4 --style {style}",
    "apart": "apart photo.jpg",
}


def greeting(url: str, models: Sequence[dict[str, Any]], replicas: int, *, gallery: bool) -> str:
    """The text. models: those that are ready, as the API lists them; gallery: whether it is served there, too."""
    lines = [("Gallery:", f"{url}/")] if gallery else []
    lines.append(("API documentation:", f"{url}/api/docs"))
    if walks := next((model for model in models if "between" in model["kinds"]), None):
        lines.append(("A walk in one GET:", _get(url, walks)))
    places = "" if url == DEFAULT_URL else f" --url {url}"
    tries = [f"{_program()} {command}{places}" for command in _commands(models)]
    lines += zip(("With your pictures:", *[""] * len(tries)), tries, strict=False)
    count = "1 replica" if replicas == 1 else f"{replicas} replicas"
    listed = "\n".join(f"    {name:<19} {text}" for name, text in lines)
    return f"\n  MoMALisa is up with {count}.\n\n{listed}\n\n  Press Ctrl-C to stop everything.\n\n"


def _program() -> str:
    """This command, as a shell in the current folder finds it: `make up` runs one that is not on the PATH."""
    own = Path(sys.executable).parent / "momalisa"
    return own.name if shutil.which(own.name) == str(own) else os.path.relpath(own)


def _get(url: str, model: dict[str, Any]) -> str:
    examples = model["card"]["about"]["examples"]
    start, end = examples[0] if examples else ("a giraffe", "a battleship")
    named = {} if model["default"] else {"model": model["name"]}
    query = urlencode({"start": start, "end": end, **named, "frames": 25, "wait": 25})
    return f"curl --fail --retry 999 -o walk.gif '{url}/api/v1/walk?{query}'"


def _commands(models: Sequence[dict[str, Any]]) -> list[str]:
    """The commands of the kinds that the models offer; of restyled ones those with a style by name."""
    found = []
    for kind, command in COMMANDS.items():
        able = [model for model in models if kind in model["kinds"]]
        style = next((style["name"] for model in able for style in model["styles"]), None)
        if able and (style or "{style}" not in command):
            found.append(command.format(style=style))
    return found
