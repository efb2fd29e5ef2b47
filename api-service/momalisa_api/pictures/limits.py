"""Limits of the programs that read a visitor's file: what a hostile file does to one of them ends with it."""

import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

MEMORY_BYTES: Final = 1 << 30
OPEN_FILES: Final = 16
NICE: Final = 10


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
