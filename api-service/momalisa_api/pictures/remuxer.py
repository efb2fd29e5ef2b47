"""The program that remuxes one clip, in a process with limits: `python -m … SOURCE TARGET [BOUNDARY]`.

Like `decoder`, for clips: SOURCE is the body of a request, TARGET the file to write, BOUNDARY of a form that contains
the clip. It prints one JSON object: what the clip is, or what is wrong.
"""

import io
import json
import sys
from dataclasses import asdict
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Final

from momalisa_api.pictures.clip_format import UnreadableClip
from momalisa_api.pictures.limits import CannotWrite, restrict
from momalisa_api.pictures.multipart import NoFile, span_of_file

REMUXING_CPU_S: Final = 20
CLIP_OUTPUT_BYTES: Final = 110_000_000
NO_PYAV: Final = 'This deployment cannot read clips, as PyAV is missing (pip install "momalisa-api[video]").'
CLIP_NEEDS_MEMORY: Final = "The clip needs too much memory. Save it as a plain MP4, and send that file."


class Part(io.RawIOBase):
    """A part of a file, as a file that can be read and sought."""

    def __init__(self, content: mmap, begin: int, end: int) -> None:
        self._content, self._begin, self._size = content, begin, end - begin
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._at + size, self._size)
        chunk = self._content[self._begin + self._at : self._begin + end] if self._at < end else b""
        self._at += len(chunk)
        return chunk


def remux(source: Path, target: Path, boundary: str | None = None) -> dict[str, Any]:
    """Remux a clip into a plain file. Returns what it is, as `remux.Clip`, or what is wrong as `problem`, or `disk`."""
    try:
        from momalisa_api.pictures.remux import remuxed
    except ImportError:
        return {"problem": NO_PYAV}
    try:
        with source.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as body:
            begin, end = span_of_file(body, boundary) if boundary else (0, len(body))
            return asdict(remuxed(Part(body, begin, end), target))
    except (UnreadableClip, NoFile) as error:
        return {"problem": str(error)}
    except CannotWrite as error:
        return {"disk": str(error)}
    except MemoryError:
        return {"problem": CLIP_NEEDS_MEMORY}


if __name__ == "__main__":
    restrict(REMUXING_CPU_S, CLIP_OUTPUT_BYTES)
    print(json.dumps(remux(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:4])))
