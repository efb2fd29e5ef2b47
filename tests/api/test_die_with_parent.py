"""Processes that end with their parent: by the kernel on Linux, and by a process beside them elsewhere."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from momalisa_api.cli import die_with_parent
from tests.support.processes import REPOSITORY, start, wait_until

FOREVER = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)"
# As die_with_parent.py on a system without the kernel's signal.
BESIDE = """
import sys
sys.path.insert(0, {path!r})
import die_with_parent as it
it._set_parent_death_signal = {answer}
it.run_bound()
"""
PARENT = """
import os, subprocess, sys
subprocess.Popen([sys.argv[1], "-c", sys.argv[2], str(os.getpid()), sys.argv[1], "-c", sys.argv[3]])
sys.stdin.read()
"""
WAYS = {"by the kernel": "it._set_parent_death_signal", "beside the command": "lambda number: False"}
way = pytest.mark.parametrize("answer", WAYS.values(), ids=list(WAYS))


def program(answer: str) -> str:
    return BESIDE.format(path=str(Path(die_with_parent.__file__).parent), answer=answer)


def wait_for_end(pid: int) -> None:
    """Wait until a process is gone, or only waits for its new parent to notice."""
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, limit_s=10)


@way
def test_a_command_ends_with_a_parent_that_is_killed(answer):
    """`kill -9`, or the kernel for lack of memory."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, sys.executable, program(answer), FOREVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_for_end(pid)


@way
@pytest.mark.parametrize(("command", "code"), [("raise SystemExit(3)", 3), ("", 0)])
def test_a_command_keeps_its_exit_code(answer, command, code):
    """Callers see what they would see without it."""
    done = subprocess.run(
        [sys.executable, "-c", program(answer), str(os.getpid()), sys.executable, "-c", command], check=False
    )
    assert done.returncode == code


@way
def test_a_signal_reaches_the_command(answer):
    """The supervisor's SIGTERM to the process group is what stops it in order."""
    command = (
        "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print('ready', flush=True); signal.pause()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program(answer), str(os.getpid()), sys.executable, "-c", command],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        assert process.stdout.readline() == b"ready\n"
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(10) == 7


def test_a_command_whose_parent_has_ended_already_does_not_start(tmp_path):
    """The kernel sends no signal for what happened before."""
    done = subprocess.run(die_with_parent.bound_to(1, "touch", str(tmp_path / "started")), check=False)
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_does_not_exist_is_a_sentence():
    done = subprocess.run(die_with_parent.bound_to(os.getpid(), "no-such-program"), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (1, b"no-such-program: No such file or directory\n")


def test_what_the_tests_start_ends_with_them():
    """A test run that was killed left deployments behind, which ran for ever."""
    tests = f"from tests.support.processes import start; start([{sys.executable!r}, '-c', {FOREVER!r}]); input()"
    command = [sys.executable, "-c", tests]
    with start(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as killed:
        pid = int(killed.stdout.readline())
        killed.kill()
    wait_for_end(pid)


def test_a_thread_that_starts_a_process_may_end():
    """The kernel counts threads as parents: the tests start all processes in one that stays."""
    import threading

    started = []
    thread = threading.Thread(
        target=lambda: started.append(start([sys.executable, "-c", FOREVER], stdout=subprocess.PIPE))
    )
    thread.start()
    thread.join()
    with started[0] as process:
        assert process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.kill()


@pytest.mark.parametrize("goal", ["up", "walk"])
def test_what_make_starts_ends_with_make(tmp_path, goal):
    """`kill -9` of `make up` left the API and the replicas on their ports."""
    scripts = tmp_path / "bin"
    scripts.mkdir()
    (scripts / "python").symlink_to(sys.executable)
    (scripts / "momalisa").write_text(f"#!{sys.executable}\n{FOREVER}\n")
    (scripts / "momalisa").chmod(0o755)
    old = ["--old-file=.venv/ready-cpu", "--old-file=frontend/dist/index.html"]
    with start(
        ["make", "--silent", *old, f"BIN={scripts}", goal],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as make:
        pid = int(make.stdout.readline())
        make.kill()
    wait_for_end(pid)
