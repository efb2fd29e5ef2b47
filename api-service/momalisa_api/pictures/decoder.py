"""The program that decodes one picture, in a process with limits: `python -m … SOURCE TARGET [BOUNDARY]`.

SOURCE is the body of a request, TARGET the PNG to write. BOUNDARY: of a form that contains the picture. It prints one
JSON object: the size of the picture, or what is wrong. What a hostile picture does to it ends with it.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from momalisa_api.pictures.limits import restrict
from momalisa_api.pictures.multipart import NoFile, file_in
from momalisa_api.pictures.normalize import UnreadablePicture, normalized

DECODING_CPU_S: Final = 20
OUTPUT_BYTES: Final = 64 << 20
# PNG takes a third of the time of the default level, and the file is a tenth larger.
COMPRESSION: Final = 2
TOO_MUCH_MEMORY: Final = "The picture needs too much memory. Save it as a plain JPEG or PNG, or make it smaller."


def decode(source: Path, target: Path, boundary: str | None = None) -> dict[str, Any]:
    """Decode a picture into a PNG file. Returns its width and height, or what is wrong as `problem`."""
    try:
        body = source.read_bytes()
        picture = normalized(file_in(body, boundary) if boundary else body)
        picture.save(target, "PNG", compress_level=COMPRESSION)
    except (UnreadablePicture, NoFile) as error:
        return {"problem": str(error)}
    except MemoryError:
        return {"problem": TOO_MUCH_MEMORY}
    return {"width": picture.width, "height": picture.height}


if __name__ == "__main__":
    restrict(DECODING_CPU_S, OUTPUT_BYTES)
    print(json.dumps(decode(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:4])))
