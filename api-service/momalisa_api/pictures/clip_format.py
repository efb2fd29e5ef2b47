"""Which files can be clips, by their first bytes and the sizes of their outermost parts. Reads no video."""

import io
from typing import IO, Final, NoReturn

# Of the outermost boxes of an MP4, each of which begins with its size and name.
_MAX_BOXES: Final = 10_000
_BOX_HEADER_BYTES: Final = 8
DAMAGED: Final = "The clip is damaged or incomplete. Save it again, and send that file."


class UnreadableClip(ValueError):
    """The bytes are no clip that can be used. str(error) says why, and what to do."""


def damaged() -> NoReturn:
    """Raise UnreadableClip for a file that cannot be read to its end."""
    raise UnreadableClip(DAMAGED)


def demuxer_of(content: IO[bytes] | io.RawIOBase) -> str:
    """The one demuxer that reads such a file: others would open playlists, and files that these name."""
    begin = content.read(12)
    content.seek(0)
    if begin[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        _check_end(content)
        return "mov"
    if begin.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    raise UnreadableClip(
        "This is not a clip that can be read. Send an MP4, MOV or WebM."
        if begin
        else "The file is empty. Send an MP4, MOV or WebM."
    )


def _check_end(content: IO[bytes] | io.RawIOBase) -> None:
    """Raise UnreadableClip for an MP4 that ends early: FFmpeg would read what is there."""
    at, end = 0, content.seek(0, io.SEEK_END)
    for _ in range(_MAX_BOXES):
        content.seek(at)
        header = (content.read(16) or b"").ljust(16, b"\0")
        size, name = int.from_bytes(header[:4], "big"), header[4:8]
        size = int.from_bytes(header[8:], "big") if size == 1 else size
        if name in (b"moov", b"mdat", b"moof") and at + size > end:
            damaged()
        at += size
        if size < _BOX_HEADER_BYTES or at >= end:
            break
    content.seek(0)
