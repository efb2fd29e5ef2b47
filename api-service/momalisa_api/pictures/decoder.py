"""The program that decodes one picture, in a process with limits: `python -m … SOURCE TARGET [BOUNDARY]`.

SOURCE is the body of a request, TARGET the PNG to write. BOUNDARY: of a form that contains the picture. It prints one
JSON object: the size of the picture, or what is wrong. What a hostile picture does to it ends with it.
"""

import json
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from momalisa_api.pictures.multipart import NoFile, file_in
from momalisa_api.pictures.normalize import UnreadablePicture, normalized

MEMORY_BYTES: Final = 1 << 30
DECODING_CPU_S: Final = 20
OUTPUT_BYTES: Final = 64 << 20
OPEN_FILES: Final = 16
NICE: Final = 10
# PNG takes a third of the time of the default level, and the file is a tenth larger.
COMPRESSION: Final = 2
TOO_MUCH_MEMORY: Final = "The picture needs too much memory. Save it as a plain JPEG or PNG, or make it smaller."


def restrict() -> None:
    """Give this process limits on memory, CPU time and files, and let it give way to the others."""
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CPU: DECODING_CPU_S,
        resource.RLIMIT_FSIZE: OUTPUT_BYTES,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    for what, limit in limits.items():
        # macOS does not limit address space.
        with suppress(ValueError, OSError):
            resource.setrlimit(what, (limit, limit))
    os.nice(NICE)
    # If the machine or the container runs out of memory, the kernel ends this process first.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


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
    restrict()
    print(json.dumps(decode(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:4])))
