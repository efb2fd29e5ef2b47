"""How many NVIDIA GPUs replicas on this machine can use. The API service has no torch to ask."""

import os
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version

LIST_S = 20


def usable_gpus() -> int:
    """The number of GPUs that torch will see here; 0 if its build is for CPUs.

    CUDA_VISIBLE_DEVICES counts if it is set; otherwise what nvidia-smi lists.
    """
    try:
        if version("torch").endswith("+cpu"):
            return 0
    except PackageNotFoundError:
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    listed = _listed()
    return listed if visible is None else min(listed, _chosen(visible))


def _listed() -> int:
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=LIST_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return len(re.findall(r"^GPU \d+:", done.stdout, re.MULTILINE))


def _chosen(visible: str) -> int:
    """CUDA reads a list of indexes or names up to the first one that is empty or -1."""
    names = [name.strip() for name in visible.split(",")]
    ends = [place for place, name in enumerate(names) if name in ("", "-1")]
    return ends[0] if ends else len(names)
