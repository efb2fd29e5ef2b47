"""Pictures among the stops of `momalisa walk`: how arguments name files, and their upload."""

import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from momalisa_api.cli import argument_types
from momalisa_api.cli.errors import CommandError

# A prompt is never taken for a file by accident: nobody's files are uploaded because a prompt has their name.
SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif")
# Photos as iPhones keep them, which servers do not read.
_HEIC: Final = (".heic", ".heif")
_FILE: Final = re.compile(
    rf"(?P<path>.*({'|'.join(map(re.escape, SUFFIXES + _HEIC))}))(@(?P<crop>[^=]*))?(=(?P<prompt>.*))?",
    re.IGNORECASE | re.DOTALL,
)
_CROP: Final = re.compile(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})", re.ASCII)


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A stop that is a picture: FILE, FILE@X,Y,WIDTH,HEIGHT or FILE=PROMPT, or all of it. crop: None for all."""

    path: Path
    crop: tuple[int, ...] | None = None
    prompt: str = ""


def stop_argument(argument: str) -> str | PictureFile:
    """A type for arguments: a prompt, or a file with the suffix of a picture."""
    found = _FILE.fullmatch(argument_types.text(argument))
    if not found:
        return argument
    path, crop = Path(found["path"]), None
    if not path.is_file():
        raise ArgumentTypeError(f"file not found: {path}")
    if path.suffix.lower() in _HEIC:
        raise ArgumentTypeError(f"{path} is a HEIC photo: save it as JPEG first, then name that file")
    if found["crop"] is not None:
        numbers = _CROP.fullmatch(found["crop"])
        if not numbers:
            raise ArgumentTypeError(f"the part of {path} must be X,Y,WIDTH,HEIGHT in pixels, not {found['crop']}")
        crop = tuple(map(int, numbers.groups()))
    return PictureFile(path, crop, found["prompt"] or "")


def uploaded(stop: object, upload: Callable[[bytes], dict[str, Any]]) -> object:
    """A stop as the API has it, after a picture was uploaded. upload: returns what the API answers to a file.

    Raises CommandError if the file cannot be read, and what `upload` raises.
    """
    if not isinstance(stop, PictureFile):
        return stop
    try:
        content = stop.path.read_bytes()
    except OSError as error:
        raise CommandError(f"Could not read {stop.path}: {error.strerror or error}.", 2) from error
    try:
        picture = upload(content)
    except CommandError as error:
        raise CommandError(f"{stop.path}: {error}", error.exit_code) from error
    found: dict[str, object] = {"picture": picture["id"], "prompt": stop.prompt}
    if stop.crop:
        found["crop"] = dict(zip(("x", "y", "width", "height"), stop.crop, strict=True))
    return found
