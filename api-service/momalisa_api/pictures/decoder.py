"""The program that decodes pictures, each in a process with limits: `python -m …` (forked.py).

The arguments of a task are the body of a request, the PNG to write, and the boundary of a form that contains the
picture. It returns the size of the picture, or what is wrong. What a hostile picture does to its process ends with it.
"""

from pathlib import Path
from typing import Any, Final

from PIL import Image

from momalisa_api.pictures.forked import do_tasks
from momalisa_api.pictures.limits import CannotWrite, check_disk, restrict
from momalisa_api.pictures.multipart import NoFile, file_in
from momalisa_api.pictures.normalize import UnreadablePicture, normalized

DECODING_CPU_S: Final = 20
OUTPUT_BYTES: Final = 64 << 20
# PNG takes a third of the time of the default level, and the file is a tenth larger.
COMPRESSION: Final = 2
TOO_MUCH_MEMORY: Final = "The picture needs too much memory. Save it as a plain JPEG or PNG, or make it smaller."


def decode(source: Path, target: Path, boundary: str | None = None) -> dict[str, Any]:
    """Decode a picture into a PNG file. Returns its width and height, or what is wrong as `problem`, or `disk`."""
    try:
        body = source.read_bytes()
        picture = normalized(file_in(body, boundary) if boundary else body)
        _save(picture, target)
    except (UnreadablePicture, NoFile) as error:
        return {"problem": str(error)}
    except CannotWrite as error:
        return {"disk": str(error)}
    except MemoryError:
        return {"problem": TOO_MUCH_MEMORY}
    return {"width": picture.width, "height": picture.height}


def _save(picture: Image.Image, target: Path) -> None:
    """Write a picture. Raises CannotWrite."""
    try:
        picture.save(target, "PNG", compress_level=COMPRESSION)
    except OSError as error:
        check_disk(error)
        raise


def decode_within_limits(source: str, target: str, boundary: str | None = None) -> dict[str, Any]:
    """Limit this process, then decode."""
    restrict(DECODING_CPU_S, OUTPUT_BYTES)
    return decode(Path(source), Path(target), boundary)


if __name__ == "__main__":
    do_tasks(decode_within_limits)
