"""The loop of a program that does many small tasks, each in a process of its own that ends after it.

The program has imported what its tasks need, and forks for each: Python alone starts slower than a picture is decoded.
Each line of its input is a JSON list of arguments; each line of its output has what the task returned, and its exit
code. It ends with its input, or after some time without a task. kept_processes.py is the other side.
"""

import json
import os
import select
import sys
from collections.abc import Callable
from typing import Any, Final

UNUSED_S: Final = 60.0
MOST_RESULT_BYTES: Final = 65_536


def do_tasks(act: Callable[..., dict[str, Any]]) -> None:
    """Do tasks until the input ends."""
    while select.select([sys.stdin], [], [], UNUSED_S)[0] and (line := sys.stdin.readline()):
        output, code = _in_own_process(act, json.loads(line))
        print(json.dumps({"output": output, "code": code}), flush=True)


def _in_own_process(act: Callable[..., dict[str, Any]], arguments: list[str]) -> tuple[str, int]:
    """What a task returns, as JSON, and the exit code of its process. A hostile file can make it anything."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        _do(act, arguments, theirs)
    os.close(theirs)
    with os.fdopen(ours, "rb") as result:
        output = result.read(MOST_RESULT_BYTES)
    _, status = os.waitpid(child, 0)
    return output.decode(errors="replace"), os.waitstatus_to_exitcode(status)


def _do(act: Callable[..., dict[str, Any]], arguments: list[str], out: int) -> None:
    """Do a task in this process, which is new, and end it. Input and output of its parent are not its own."""
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for own in (0, 1, 2):
            os.dup2(nothing, own)
        os.write(out, json.dumps(act(*arguments)).encode())
        os._exit(0)
    finally:
        os._exit(1)
