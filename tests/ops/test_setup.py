"""The set-up of the Makefile: whatever step is killed, the next `make` completes it.

Real make with the real Makefile; fake tools in place of Python's venv, pip, uv and npm, which install nothing but leave
what the real ones leave when they are killed. bench/setup.py does the same with the real ones, in minutes.
"""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import REPOSITORY

COPIED = ("Makefile", "requirements", "frontend/package.json", "frontend/package-lock.json")
PROJECTS = ("api-service/pyproject.toml", "model-service/pyproject.toml")
GOALS = ("gallery", ".venv/ready-dev")
TOOL = f'''#!{sys.executable}
"""Plays python, pip, uv, npm and node. The step with the number in KILL_AT does half of its work and is killed."""
import os, shutil, signal, sys
from pathlib import Path

name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
steps = Path(os.environ["STEPS"])

def step(half, rest):
    with steps.open("a") as file:
        file.write(f"{{name}} {{' '.join(arguments)}}\\n")
    half()
    if len(steps.read_text().splitlines()) == int(os.environ.get("KILL_AT", 0)):
        os.killpg(0, signal.SIGKILL)
    rest()

def tool(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(__file__, path)

def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

if name == "python" and arguments[:2] == ["-m", "venv"]:
    at = Path(arguments[-1]) / "bin"
    step(lambda: at.mkdir(parents=True, exist_ok=True) or tool(at / "python"), lambda: tool(at / "pip"))
elif name == "pip" and "bootstrap.lock" in arguments[-1]:
    at = Path(".venv/bin/uv")
    half = lambda: at.exists() or write(at, "#!/bin/false")
    # A package that is there already is not installed again, whether it is complete or not.
    step(half, lambda: at.read_text() == "#!/bin/false" and tool(at))
    at.chmod(0o755)
elif name == "pip":
    sys.exit(1)
elif name == "uv":
    package = Path(".venv/lib") / ("-".join(arguments[arguments.index("--python") + 2 :]).replace("/", "_"))
    known = package.exists()
    step(lambda: package.mkdir(parents=True, exist_ok=True), lambda: known or write(package / "RECORD"))
elif name == "npm" and "ci" in arguments:
    shutil.rmtree("node_modules", ignore_errors=True)
    step(lambda: write(Path("node_modules/some")), lambda: write(Path("node_modules/.package-lock.json")))
elif name == "npm":
    at = Path(arguments[arguments.index("--outDir") + 1] if "--outDir" in arguments else "dist")
    shutil.rmtree(at, ignore_errors=True)
    step(lambda: write(at / "index.html"), lambda: write(at / "assets/index.js"))
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the set-up reads, with the fake tools in the folder `tools`."""
    for name in COPIED:
        source, target = REPOSITORY / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    for name in PROJECTS:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "tools").mkdir()
    for name in ("python", "npm", "node"):
        path = tmp_path / "tools" / name
        path.write_text(TOOL)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def make(project: Path, kill_at: int = 0) -> tuple[int, list[str]]:
    """Set everything up. Returns make's exit code and the steps that it took."""
    steps = project / "steps"
    steps.write_text("")
    tools = project / "tools"
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "STEPS": str(steps)}
    done = subprocess.run(
        ["make", "--silent", f"PYTHON={tools / 'python'}", *GOALS],
        cwd=project,
        env={**environment, "KILL_AT": str(kill_at)},
        capture_output=True,
        start_new_session=True,
        check=False,
    )
    return done.returncode, steps.read_text().splitlines()


def incomplete(project: Path) -> list[Path]:
    """Packages of which only a part was installed, and pages without their assets."""
    packages = [path for path in (project / ".venv" / "lib").iterdir() if not (path / "RECORD").exists()]
    return packages + [path for path in [project / "frontend/dist/assets/index.js"] if not path.exists()]


def test_a_set_up_is_done_once(project):
    """The second `make` changes nothing."""
    code, steps = make(project)
    assert (code, incomplete(project)) == (0, [])
    assert len(steps) >= 7
    assert make(project) == (0, [])


def test_a_set_up_that_was_killed_at_any_step_is_completed_by_the_next(project):
    """Ctrl-C, a closed laptop, a full disk: nobody should have to find out what to delete."""
    _, steps = make(project)
    for number, step in enumerate(steps, 1):
        for made in (".venv", "frontend/dist", "frontend/node_modules"):
            shutil.rmtree(project / made)
        assert make(project, kill_at=number)[0] != 0
        assert make(project)[0] == 0, step
        assert incomplete(project) == [], step
        assert make(project) == (0, [])


def test_an_update_that_was_killed_at_any_step_is_completed_by_the_next(project):
    """A `git pull` changes the locks: what is there is updated, not made again, unless that was broken off."""
    make(project)
    locks = [project / "requirements" / name for name in ("run.lock", "dev.lock")]

    def update() -> None:
        for lock in locks:
            os.utime(lock)
        for record in (project / ".venv" / "lib").glob("*/RECORD"):
            shutil.rmtree(record.parent)

    update()
    code, steps = make(project)
    assert code == 0
    assert not any("-m venv" in step for step in steps)
    for number, step in enumerate(steps, 1):
        update()
        assert make(project, kill_at=number)[0] != 0
        assert make(project)[0] == 0, step
        assert incomplete(project) == [], step


def test_an_environment_without_its_python_is_made_again(project):
    """An upgrade of the operating system removes the Python that .venv was made with."""
    make(project)
    python = project / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    code, steps = make(project)
    assert code == 0
    assert "-m venv" in steps[0]


def test_clean_removes_an_environment_whose_removal_was_broken_off(project):
    """It is moved aside before it is removed."""
    (project / ".venv.old" / "lib").mkdir(parents=True)
    subprocess.run(["make", "--silent", "clean"], cwd=project, check=True)
    assert not (project / ".venv.old").exists()
