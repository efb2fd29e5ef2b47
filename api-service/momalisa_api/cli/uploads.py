"""Pictures and clips among the arguments of commands: what they name, and their upload before the request."""

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
_STOP: Final = re.compile(
    rf"(?P<path>.*({'|'.join(map(re.escape, SUFFIXES + _HEIC))}))(@(?P<crop>[^=]*))?(=(?P<prompt>.*))?",
    re.IGNORECASE | re.DOTALL,
)
_PART: Final = re.compile(r"(?P<whole>.+)@(?P<crop>\d+,[\d,]*)", re.ASCII | re.DOTALL)
_CROP: Final = re.compile(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})", re.ASCII)
# The id of a walk or the address of its page, and the number of a frame.
_FRAME: Final = re.compile(r"(?:https?://[^#\s]+/)?(?P<walk>[0-9a-f]{32})#(?P<frame>\d{1,6})", re.ASCII)
_URL: Final = re.compile(r"https?://\S+", re.IGNORECASE)

Source = Path | dict[str, Any]
# Sends a file or JSON to a path of the API. Returns the id of what is there then.
Send = Callable[[str, bytes | dict[str, Any]], str]


@dataclass(frozen=True, slots=True)
class PictureUpload:
    """A picture in a request. source: a file, or where the server finds it; crop: None for all of it; prompt: of a
    stop, None in other places.
    """

    source: Source
    crop: tuple[int, ...] | None = None
    prompt: str | None = None

    def sent(self, send: Send) -> dict[str, Any]:
        """The picture as the API has it."""
        found: dict[str, Any] = {"picture": _sent(self.source, "/api/v1/pictures", send)}
        if self.prompt is not None:
            found["prompt"] = self.prompt
        if self.crop:
            found["crop"] = dict(zip(("x", "y", "width", "height"), self.crop, strict=True))
        return found


@dataclass(frozen=True, slots=True)
class ClipUpload:
    """A clip in a request: a file, or where the server finds it."""

    source: Source

    def sent(self, send: Send) -> str:
        """The clip as the API has it."""
        return _sent(self.source, "/api/v1/clips", send)


def stop_argument(argument: str) -> str | PictureUpload:
    """A type for arguments: a prompt, or FILE, FILE@X,Y,WIDTH,HEIGHT or FILE=PROMPT with the suffix of a picture."""
    found = _STOP.fullmatch(argument_types.text(argument))
    if not found:
        return argument
    file = _picture_file(found["path"])
    return PictureUpload(file, _crop(file, found["crop"]), found["prompt"] or "")


def picture_argument(argument: str) -> PictureUpload:
    """A type for arguments: FILE, URL or WALK#FRAME, and @X,Y,WIDTH,HEIGHT after it for a part of the picture."""
    part = _PART.fullmatch(argument_types.text(argument))
    whole, crop = (part["whole"], part["crop"]) if part else (argument, None)
    if frame := _FRAME.fullmatch(whole):
        return PictureUpload({"walk": frame["walk"], "frame": int(frame["frame"])}, _crop(whole, crop))
    source: Source = {"url": whole} if _URL.fullmatch(whole) else _picture_file(whole)
    return PictureUpload(source, _crop(whole, crop))


def clip_argument(argument: str) -> ClipUpload:
    """A type for arguments: FILE or URL."""
    if _URL.fullmatch(argument_types.text(argument)):
        return ClipUpload({"url": argument})
    return ClipUpload(_file(argument))


def with_uploads(request: dict[str, Any], send: Send) -> dict[str, Any]:
    """A request as the API has it, after its pictures and clips were uploaded.

    Raises CommandError if a file cannot be read, and what `send` raises.
    """
    return {name: _uploaded(value, send) for name, value in request.items()}


def _uploaded(value: object, send: Send) -> object:
    if isinstance(value, list):
        return [_uploaded(each, send) for each in value]
    return value.sent(send) if isinstance(value, PictureUpload | ClipUpload) else value


def _sent(source: Source, path: str, send: Send) -> str:
    if not isinstance(source, Path):
        return send(path, source)
    try:
        content = source.read_bytes()
    except OSError as error:
        raise CommandError(f"Could not read {source}: {error.strerror or error}.", 2) from error
    try:
        return send(path, content)
    except CommandError as error:
        raise CommandError(f"{source}: {error}", error.exit_code) from error


def _picture_file(name: str) -> Path:
    path = _file(name)
    if path.suffix.lower() in _HEIC:
        raise ArgumentTypeError(f"{path} is a HEIC photo: save it as JPEG first, then name that file")
    return path


def _file(name: str) -> Path:
    path = Path(name)
    try:
        found = path.is_file()
    except OSError:
        # A name that is too long.
        found = False
    if not found:
        raise ArgumentTypeError(f"file not found: {path}")
    return path


def _crop(whole: Path | str, crop: str | None) -> tuple[int, ...] | None:
    if crop is None:
        return None
    numbers = _CROP.fullmatch(crop)
    if not numbers:
        raise ArgumentTypeError(f"the part of {whole} must be X,Y,WIDTH,HEIGHT in pixels, not {crop}")
    return tuple(map(int, numbers.groups()))
