"""`python -m momalisa_api.cli.respawn COMMAND...`: run a command, and again whenever it dies, until told to stop.

Honcho ends everything when one process ends; a replica that crashes should cost nothing but time.
"""

import signal
import subprocess
import sys
import time
from types import FrameType

PAUSE_S = 1.0


def main(command: list[str]) -> int:
    """Keep a command running until SIGTERM or SIGINT, which it gets too. Returns 0."""
    stopping = False
    child: subprocess.Popen[bytes] | None = None

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        if child and child.poll() is None:
            child.send_signal(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while not stopping:
        child = subprocess.Popen(command)
        code = child.wait()
        if not stopping:
            print(f"{command[0]} ended with {code}; starting it again", flush=True)
            time.sleep(PAUSE_S)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
