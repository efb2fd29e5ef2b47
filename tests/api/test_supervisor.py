"""The supervisor of `momalisa up`, with small processes in place of replicas and the api."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.processes import wait_until

SUPERVISED = """
import sys, anyio
from momalisa_api.cli.supervisor import SupervisedCommand, Supervisor
python = (sys.executable, "-u", "-c")
async def main():
    return await Supervisor([
        SupervisedCommand(name, (*python, code), {}, restarts=name.startswith("replica"))
        for name, code in zip(sys.argv[1::2], sys.argv[2::2])
    ]).run()
sys.exit(anyio.run(main))
"""
FOREVER = "import time; print('ready'); time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); time.sleep(600)"
CHATTY = "import itertools\nfor n in itertools.count(): print(n, 'x' * 200)"


@contextmanager
def supervising(output: Path | int, **commands: str) -> Iterator[subprocess.Popen[bytes]]:
    """A supervisor of Python programs; no process is left when the block ends.

    output: a file, or the writing end of a pipe, which is closed here.
    """
    arguments = [part for command in commands.items() for part in command]
    if isinstance(output, Path):
        output = os.open(output, os.O_WRONLY | os.O_CREAT)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SUPERVISED), *arguments], stdout=output, stderr=subprocess.PIPE
    )
    os.close(output)
    children: list[psutil.Process] = []
    try:
        wait_until(lambda: len(psutil.Process(process.pid).children()) == len(commands) or process.poll() is not None)
        if process.poll() is None:
            children = psutil.Process(process.pid).children()
        yield process
        _, alive = psutil.wait_procs(children, timeout=10)
        assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        for child in children:
            if child.is_running():
                child.kill()
        process.kill()
        process.wait()


def ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code. Fails if the end takes longer than a user would wait, or prints a traceback."""
    _, errors = process.communicate(timeout=20)
    assert errors == b""
    return process.returncode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all_processes(tmp_path, number):
    """Ctrl-C, an orchestrator, a terminal that is closed."""
    log = tmp_path / "log"
    with supervising(log, replica=FOREVER, api=FOREVER) as process:
        wait_until(lambda: log.read_text().count("ready") == 2)
        process.send_signal(number)
        assert ended(process) == 0
    assert "replica | exited with code -15\n" in log.read_text()


def test_a_reader_that_goes_away_stops_all_processes():
    """`momalisa up | head`: later lines have nowhere to go, and no unattended process may stay."""
    reader, writer = os.pipe()
    with supervising(writer, replica=CHATTY, api=FOREVER) as process:
        assert b"replica" in os.read(reader, 100)
        os.close(reader)
        assert ended(process) == 0


def test_a_reader_that_goes_away_from_quiet_processes_stops_them():
    """The next line may come in an hour."""
    reader, writer = os.pipe()
    with supervising(writer, replica=FOREVER, api=FOREVER) as process:
        output = b""
        while output.count(b"ready") < 2:
            output += os.read(reader, 1000)
        os.close(reader)
        assert ended(process) == 0


def test_a_full_disk_stops_all_processes():
    """Without its output, nobody would see what else goes wrong. It must not wait for processes that never end."""
    with supervising(Path("/dev/full"), replica=FOREVER, api=FOREVER) as process:
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == b"OSError: [Errno 28] No space left on device"


def test_a_reader_that_pauses_does_not_hold_up_a_signal():
    """`momalisa up | less`: the pipe is full, and Ctrl-C still works."""
    reader, writer = os.pipe()
    with supervising(writer, replica=CHATTY, api=FOREVER) as process:
        [chatty] = [child for child in psutil.Process(process.pid).children() if CHATTY in child.cmdline()]
        wait_until(lambda: _sleeps(chatty) and _sleeps(psutil.Process(process.pid)))
        process.send_signal(signal.SIGINT)
        assert ended(process) == 0
    os.close(reader)


def _sleeps(process: psutil.Process) -> bool:
    """Whether a process makes no progress, because it waits for the reader of its output."""
    before = process.cpu_times()
    try:
        process.wait(0.3)
    except psutil.TimeoutExpired:
        return process.cpu_times() == before and before.user > 0
    return False


def test_a_second_ctrl_c_kills(tmp_path):
    """A replica that does not stop must not hold a terminal."""
    log = tmp_path / "log"
    with supervising(log, replica=DEAF, api=DEAF) as process:
        wait_until(lambda: log.read_text().count("ready") == 2)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: psutil.Process(process.pid).children())
        process.send_signal(signal.SIGINT)
        assert ended(process) == 0
    assert log.read_text().count("exited with code -9") == 2


def test_a_process_that_does_not_stop_is_killed(tmp_path):
    """After some seconds, without another signal."""
    log = tmp_path / "log"
    with supervising(log, replica=DEAF, api=FOREVER) as process:
        wait_until(lambda: log.read_text().count("ready") == 2)
        process.send_signal(signal.SIGTERM)
        assert ended(process) == 0
    assert "replica | exited with code -9\n" in log.read_text()


def test_a_replica_that_crashes_is_restarted(tmp_path):
    """It should cost nothing but time."""
    log = tmp_path / "log"
    with supervising(log, replica="print('ready'); raise SystemExit(3)", api=FOREVER) as process:
        wait_until(lambda: log.read_text().count("replica | ready") == 2)
        assert "replica | exited with code 3\n" in log.read_text()
        process.send_signal(signal.SIGTERM)
        assert ended(process) == 0


def test_processes_end_with_a_supervisor_that_is_killed(tmp_path):
    """After SIGKILL nobody is left to stop them, not even those that ignore SIGTERM."""
    log = tmp_path / "log"
    with supervising(log, replica=DEAF, api=FOREVER) as process:
        wait_until(lambda: log.read_text().count("ready") == 2)
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("death", "code"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_the_end_of_the_api_ends_everything(tmp_path, death, code):
    """Replicas without an API are useless; the exit code shows that this was not a normal end."""
    with supervising(tmp_path / "log", replica=FOREVER, api=death) as process:
        assert ended(process) == code
