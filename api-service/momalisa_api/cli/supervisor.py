"""Runs processes side by side in one terminal: labels their output, restarts crashed ones, stops all together.

Its processes end with it, also if it is killed.
"""

import errno
import fcntl
import os
import select
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import anyio
from anyio.abc import Process

from momalisa_api.cli.die_with_parent import bound_to

RESTART_PAUSE_S = 1.0
STOP_S = 5.0
LAST_LINES_S = 0.5
COLOURS = (36, 33, 35, 32, 34, 31)


@dataclass(frozen=True)
class SupervisedCommand:
    """A process to run. Its end stops all others, unless `restarts`: then it is started again."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    restarts: bool = False


class Supervisor:
    """Runs commands until a signal, until one that does not restart ends, or until the reader of its output is gone.

    A second Ctrl-C kills what is still running.
    """

    def __init__(self, commands: list[SupervisedCommand], output: int | None = None) -> None:
        """output: file descriptor for everything that the processes print; standard output by default."""
        self._commands = commands
        if output is None:
            # `momalisa up >&-` has no standard output.
            output = sys.stdout.fileno() if sys.stdout else os.open(os.devnull, os.O_WRONLY)
        self._output = output
        self._writing = anyio.Lock()
        self._width = max(len(command.name) for command in commands)
        self._running: dict[str, Process] = {}
        self._stopping = anyio.Event()
        self._killing = anyio.Event()
        self._exit_code = 0
        self._write_error: OSError | None = None

    async def run(self) -> int:
        """Returns the exit code of the command that ended by itself; 0 after a signal.

        Raises OSError, after everything has stopped, if the output cannot be written, for example to a full disk.
        """
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async with anyio.create_task_group() as watchers:
                watchers.start_soon(self._obey, signals)
                watchers.start_soon(self._notice_closed_output)
                async with anyio.create_task_group() as processes:
                    watchers.start_soon(self._stop_all, processes.cancel_scope)
                    for command in self._commands:
                        processes.start_soon(self._keep, command)
                watchers.cancel_scope.cancel()
        if self._write_error:
            raise self._write_error
        return self._exit_code

    async def write(self, text: str) -> None:
        """Write without ever blocking the event loop: a reader that pauses must not hold up Ctrl-C."""
        data = text.encode()
        async with self._writing:
            try:
                while data:
                    if _can_wait(self._output):
                        await anyio.wait_writable(self._output)
                    # A writable pipe takes this much at once.
                    data = data[os.write(self._output, data[: select.PIPE_BUF]) :]
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.EIO):
                    self._write_error = error
                self._stopping.set()

    async def _keep(self, command: SupervisedCommand) -> None:
        while not self._stopping.is_set():
            code = await self._run_once(command)
            if self._stopping.is_set():
                return
            if not command.restarts:
                self._exit_code = code if code >= 0 else 128 - code
                self._stopping.set()
                return
            await self._say(command, "restarting")
            with anyio.move_on_after(RESTART_PAUSE_S):
                await self._stopping.wait()

    async def _run_once(self, command: SupervisedCommand) -> int:
        """Run a command and print its output. Returns its exit code, negative for the signal that ended it."""
        process = await anyio.open_process(
            # After SIGKILL, nobody would be left to stop it.
            bound_to(os.getpid(), *command.arguments),
            env=command.environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            # The terminal sends Ctrl-C to its whole process group; here the supervisor decides what stops when.
            start_new_session=True,
        )
        async with process:
            self._running[command.name] = process
            if self._stopping.is_set():
                _send(process, signal.SIGTERM)
            await self._say(command, f"started (pid {process.pid})")
            assert process.stdout
            async for line in _lines(process.stdout):
                await self._say(command, line)
            code = await process.wait()
            del self._running[command.name]
            await self._say(command, f"exited with code {code}")
        return code

    async def _say(self, command: SupervisedCommand, text: str) -> None:
        label = f"{datetime.now():%H:%M:%S} {command.name.ljust(self._width)} | "
        if os.isatty(self._output):
            label = f"\033[{COLOURS[self._commands.index(command) % len(COLOURS)]}m{label}\033[0m"
        await self.write("".join(f"{label}{line}\n" for line in text.splitlines() or [""]))

    async def _obey(self, signals: AsyncIterable[signal.Signals]) -> None:
        interrupts = 0
        async for number in signals:
            self._stopping.set()
            interrupts += number == signal.SIGINT
            if interrupts > 1:
                self._killing.set()

    async def _notice_closed_output(self) -> None:
        """A pipe whose reader has closed it counts as readable at its writing end."""
        only_writes = fcntl.fcntl(self._output, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        if only_writes and stat.S_ISFIFO(os.fstat(self._output).st_mode):
            await anyio.wait_readable(self._output)
            self._stopping.set()

    async def _stop_all(self, processes: anyio.CancelScope) -> None:
        await self._stopping.wait()
        self._send_all(signal.SIGTERM)
        with anyio.move_on_after(STOP_S):
            await self._killing.wait()
        self._send_all(signal.SIGKILL)
        await anyio.sleep(LAST_LINES_S)
        # What still waits now waits for a reader that has paused.
        processes.cancel()

    def _send_all(self, number: signal.Signals) -> None:
        for process in self._running.values():
            _send(process, number)


def _send(process: Process, number: signal.Signals) -> None:
    """Send a signal to a process and its children, which form a session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _can_wait(descriptor: int) -> bool:
    """Whether the event loop can wait for it: it cannot for a file, which never blocks for long either."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


async def _lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[str]:
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")
