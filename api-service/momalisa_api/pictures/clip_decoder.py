"""The program that decodes one stored clip, in a process with limits: `python -m … SOURCE FOLDER WANTED`.

WANTED is a JSON object, the fields of `clip_frames.Wanted`. It prints one JSON object: when the frames are shown, or
what is wrong. What a hostile clip does to it ends with it.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from momalisa_api.pictures.clip_format import UnreadableClip
from momalisa_api.pictures.limits import CannotWrite, restrict
from momalisa_api.pictures.remuxer import NO_PYAV

CLIP_DECODING_CPU_S: Final = 300
FRAME_FILE_BYTES: Final = 64 << 20
CLIP_TOO_LARGE: Final = "The clip of this walk needs too much memory. Make it smaller, and upload it again."


def decode_clip(source: Path, folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Decode a clip into a folder. Returns a `clip_frames.ClipTrack`, or what is wrong as `problem`, or `disk`."""
    try:
        from momalisa_api.pictures.clip_frames import Wanted, decoded
    except ImportError:
        return {"problem": NO_PYAV}
    try:
        return asdict(decoded(source, folder, Wanted(**wanted)))
    except UnreadableClip as error:
        return {"problem": str(error)}
    except CannotWrite as error:
        return {"disk": str(error)}
    except MemoryError:
        return {"problem": CLIP_TOO_LARGE}


if __name__ == "__main__":
    restrict(CLIP_DECODING_CPU_S, FRAME_FILE_BYTES)
    print(json.dumps(decode_clip(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))))
