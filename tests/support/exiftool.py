"""What ExifTool reads in files: the program with which others check metadata."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EXIFTOOL = shutil.which("exiftool")


def read(files: Sequence[Path], *tags: str) -> list[dict[str, Any]]:
    """The tags of each file as ExifTool names and stores them (`Group:Tag`), with its warnings and errors."""
    assert EXIFTOOL, "exiftool is not installed: make system-packages installs it"
    command = [EXIFTOOL, "-json", "-G1", "-n", "-warning", "-error", "-a", *(f"-{tag}" for tag in tags)]
    # Its status is not zero if it warns.
    done = subprocess.run([*command, *map(str, files)], check=False, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found
