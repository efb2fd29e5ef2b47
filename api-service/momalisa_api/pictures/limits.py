"""Limits of the programs that read a visitor's file: what a hostile file does to one of them ends with it."""

import errno
import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

MEMORY_BYTES: Final = 1 << 30
OPEN_FILES: Final = 16
NICE: Final = 10
# What writing raises on a disk that is full, or into a folder that is gone; reading a damaged file raises none of them.
_OF_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT})


class CannotWrite(Exception):
    """The program cannot write its result. The visitor's file is not to blame."""


def check_disk(error: Exception) -> None:
    """Raises CannotWrite if this error says so. Those of FFmpeg have a number, too."""
    if getattr(error, "errno", None) in _OF_DISK:
        raise CannotWrite(str(error)) from error


def restrict(cpu_s: int, output_bytes: int) -> None:
    """Give this process limits on memory, CPU time and files, and let it give way to the others."""
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: output_bytes,
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
