"""Reads the spec of a walk from one of its films: what `make.make_films` has written into GIF, MP4, WebP or JPEG."""

import io
import json
import struct
import warnings
from pathlib import Path
from typing import IO, Any, Final

from PIL import Image

from momalisa_api.walks.kinds import BETWEEN

_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_CODE_BYTES: Final = 8
# Where an MP4 has its comment: boxes, each inside the one before. A data box begins with a type and a locale.
_COMMENT_BOXES: Final = (b"moov", b"udta", b"meta", b"ilst", b"\xa9cmt", b"data")
_MAX_COMMENT_BYTES: Final = 1 << 20
# What the specs of all kinds have.
_NEEDED: Final = frozenset({"frames", "model", "revision"})


class NoSpec(ValueError):
    """The file is no film of a walk, or its metadata was removed."""


def read_spec(film: Path) -> dict[str, Any]:
    """The spec, with the seed that was used in place of auto, and what was measured. Raises NoSpec, OSError."""
    with film.open("rb") as file:
        begin = file.read(12)
        file.seek(0)
        comment = _mp4_comment(file) if begin[4:8] == b"ftyp" else _picture_comment(file)
    try:
        spec = json.loads(comment)
        # What Python reads and cannot send to a server: infinite numbers, lone surrogates.
        json.dumps(spec, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise NoSpec("the file carries no walk") from error
    if not isinstance(spec, dict) or not spec.keys() >= _NEEDED:
        raise NoSpec("the file carries no walk")
    # The films of the first releases have no kind.
    if spec.get("kind", BETWEEN) == BETWEEN and not isinstance(spec.get("stops"), list):
        raise NoSpec("the file carries no walk")
    return spec


def _picture_comment(file: IO[bytes]) -> str:
    """The comment of a GIF, or the Exif UserComment of a WebP or JPEG; empty if there is none."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=("GIF", "WEBP", "JPEG")) as picture:
            if "comment" in picture.info and picture.format == "GIF":
                return bytes(picture.info["comment"]).decode(errors="replace")
            exif = picture.getexif()
            comment = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT)
    except (OSError, ValueError, SyntaxError, TypeError, struct.error, Image.DecompressionBombError):
        return ""
    if not isinstance(comment, bytes):
        return ""
    if comment.startswith(b"UNICODE\0"):
        return comment[_CODE_BYTES:].decode("utf-16-le" if exif.endian == "<" else "utf-16-be", errors="replace")
    return comment[_CODE_BYTES:].decode(errors="replace")


def _mp4_comment(file: IO[bytes]) -> str:
    """The comment of an MP4; empty if there is none."""
    at, end = mp4_comment_at(file) or (0, 0)
    file.seek(at)
    return file.read(min(end - at, _MAX_COMMENT_BYTES)).decode(errors="replace")


def mp4_comment_at(file: IO[bytes]) -> tuple[int, int] | None:
    """Where the comment of an MP4 begins and ends; None if there is none. Source: ISO/IEC 14496-12, section 4.2."""
    at, end = 0, file.seek(0, io.SEEK_END)
    for name in _COMMENT_BOXES:
        place = _box(file, name, at, end)
        if not place:
            return None
        at, end = place
        # A full box: version and flags come first.
        at += 4 if name == b"meta" else 0
    return (at + 8, end) if end > at + 8 else None


def _box(file: IO[bytes], wanted: bytes, at: int, end: int) -> tuple[int, int] | None:
    """Where the content of the first box of a kind begins and ends, among the boxes between two offsets."""
    while at + 8 <= end:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1 and at + 16 <= end:
            [size] = struct.unpack(">Q", file.read(8))
            header = 16
        elif size == 0:
            size = end - at
        if size < header or at + size > end:
            return None
        if kind == wanted:
            return at + header, at + size
        at += size
    return None
