"""Processes of a program that stays and does one task after another (forked.py), as many as are used at a time."""

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from subprocess import DEVNULL

import anyio
from anyio.abc import Process


class KeptProcesses:
    """The processes of one module. They start when they are needed, and end by themselves when they are not."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        # -P, -s: only this package and the installed ones are imported, wherever this process runs.
        self._command = [sys.executable, "-P", "-s", "-m", module]
        self._environment = environment
        self._unused: list[Process] = []

    async def ask(self, line: bytes, limit_s: float) -> bytes:
        """The line with which a process answers a line; empty if it ended, or took too long and was killed.

        Raises OSError if none can be started.
        """
        while True:
            kept = bool(self._unused)
            process = self._unused.pop() if kept else await self._start()
            answer = b""
            try:
                with anyio.move_on_after(limit_s) as limit:
                    answer = await _exchange(process, line)
            finally:
                if answer:
                    self._unused.append(process)
                else:
                    await _end(process)
            # A process that was kept may have ended meanwhile.
            if answer or not kept or limit.cancelled_caught:
                return answer

    async def aclose(self) -> None:
        """End all processes. None may be in use."""
        while self._unused:
            await _end(self._unused.pop())

    async def _start(self) -> Process:
        return await anyio.open_process(self._command, stderr=DEVNULL, env=self._environment, start_new_session=True)


async def _exchange(process: Process, line: bytes) -> bytes:
    """Send a line and receive one; nothing if the process ends."""
    assert process.stdin
    assert process.stdout
    answer = b""
    try:
        await process.stdin.send(line)
        while not answer.endswith(b"\n"):
            answer += await process.stdout.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError):
        return b""
    return answer


async def _end(process: Process) -> None:
    """Kill a process with the task that it does."""
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await process.aclose()
