"""Runs a command that ends with its parent: die_with_parent.py PARENT[:SIGNAL] COMMAND [ARGUMENT…].

PARENT is the parent's process id. On Linux, the kernel sends the command a signal, SIGKILL by default, when the thread
that started it ends, for whatever reason. Elsewhere this process stays beside the command and looks for its parent; to
end the command, send a signal to the process group of both.
It needs no other module of this package, so that it starts in milliseconds.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

# From linux/prctl.h.
PR_SET_PDEATHSIG = 1
LOOK_S = 0.5


def bound_to(parent: int, *command: str, death_signal: int = signal.SIGKILL) -> list[str]:
    """The command line of a command that ends with a process. -S: this program needs no installed packages."""
    return [sys.executable, "-S", str(Path(__file__).resolve()), f"{parent}:{int(death_signal)}", *command]


def run_bound() -> None:
    """What this program does."""
    process, _, number = sys.argv[1].partition(":")
    parent, death_signal, command = int(process), int(number or signal.SIGKILL), sys.argv[2:]
    if not _set_parent_death_signal(death_signal):
        sys.exit(_watch(parent, death_signal, command))
    # The parent may have ended before the kernel knew.
    if os.getppid() != parent:
        sys.exit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


def _set_parent_death_signal(number: int) -> bool:
    """Whether the kernel will send a signal to this process at its parent's end; an exec keeps that."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        return bool(ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number) == 0)
    except (OSError, AttributeError):
        return False


def _watch(parent: int, death_signal: int, command: list[str]) -> int:
    """Run a command beside this process. Returns its exit code as a shell would."""
    with subprocess.Popen(command) as process:
        # Terminals and callers signal the whole process group, so the command has got it already, and a second signal
        # would mean more than the first.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        while True:
            try:
                code = process.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                if os.getppid() != parent:
                    process.send_signal(death_signal)
            else:
                return code if code >= 0 else 128 - code


if __name__ == "__main__":
    run_bound()
