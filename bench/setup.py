"""Set-ups that are killed: does the next `make` complete them, and how long does it take?

    python bench/setup.py [--kills 6] [--target .venv/ready-cpu]

In clones of this repository, `make` and everything that it started get SIGKILL after a share of the time of a whole
set-up; then `make` runs again, and the installed command line is asked for its version.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def set_up(clone: Path, target: str, limit_s: float | None = None) -> float:
    """Run `make`, and kill it with all its processes after `limit_s` seconds. Returns the seconds that it took."""
    began = time.perf_counter()
    process = subprocess.Popen(["make", target], cwd=clone, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        status = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return time.perf_counter() - began
    if status:
        sys.exit(f"make failed with status {status}")
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--target", default=".venv/ready-cpu")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "momalisa"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        whole_s = set_up(clone, chosen.target)
        print(f"whole set-up: {whole_s:.0f} s")
        for number in range(1, chosen.kills + 1):
            subprocess.run(["git", "clean", "-qfdx"], cwd=clone, check=True)
            killed_s = set_up(clone, chosen.target, whole_s * number / (chosen.kills + 1))
            again_s = set_up(clone, chosen.target)
            version = subprocess.run([clone / ".venv/bin/momalisa", "--version"], capture_output=True, text=True)
            works = "works" if version.returncode == 0 else f"FAILS: {version.stderr.strip()[-200:]}"
            print(f"killed after {killed_s:5.1f} s, again in {again_s:5.1f} s: {works}")


if __name__ == "__main__":
    main()
