"""Starting and stopping a deployment on one machine."""

import os
import re
import signal
import subprocess

import httpx
import psutil
from PIL import Image

from tests.support.deployment import SCRIPTS, WEIGHTS, deployed, free_port, wait_until
from tests.support.gallery import SCRIPT, make_gallery
from tests.support.processes import start


def test_up_serves_the_gallery_and_stops_at_ctrl_c(tmp_path, monkeypatch):
    """One start for three promises: the printed address is right, a second start is refused, and nothing is left."""
    monkeypatch.setenv("MOMALISA_GALLERY", str(make_gallery(tmp_path / "dist")))
    with deployed(tmp_path) as running:
        printed = wait_until(
            lambda: re.findall(r"https?://[^\s']+", running.log.read_text().partition(" is up with ")[2])
        )
        assert printed[0] == f"{running.url}/"
        assert SCRIPT in httpx.get(printed[0]).text
        refuse_a_second_start(running.url.rpartition(":")[2])
        family = psutil.Process(running.process.pid).children(recursive=True)
        assert len(family) == 3
    assert running.process.returncode == 0
    _, alive = psutil.wait_procs(family, timeout=10)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def refuse_a_second_start(port: str) -> None:
    """A second deployment on the same port ends with a sentence, and starts no process."""
    second = subprocess.run(
        [str(SCRIPTS / "momalisa"), "up"],
        env={**os.environ, "MOMALISA_PORT": port},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 2
    assert f"port {port} is in use" in second.stderr
    assert "started" not in second.stdout


def test_one_command_makes_a_walk_from_nothing(tmp_path):
    """`make walk` starts what it needs, saves the film, and stops everything again."""
    out = tmp_path / "walk.gif"
    environment = {**os.environ, "MOMALISA_MODEL_ID": str(WEIGHTS), "MOMALISA_BUCKET": str(tmp_path / "bucket")}
    environment["MOMALISA_DATABASE_URL"] = f"sqlite:///{tmp_path}/catalogue.sqlite"
    process = start(
        [
            str(SCRIPTS / "momalisa"),
            "walk",
            "--local",
            "--frames",
            "4",
            "--out",
            str(out),
            "a red sunburst on yellow",
            "blue waves",
        ],
        env={**environment, "MOMALISA_URL": ""},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    with Image.open(out) as gif:
        assert gif.n_frames == 6


def test_a_walk_that_waits_for_a_model_says_what_is_wrong_with_it(tmp_path):
    """The reason is in the log of a replica, which nobody reads who waits for a walk. Ctrl-C ends the wait."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    environment = {**os.environ, "MOMALISA_MODEL_ID": str(tmp_path / "mine"), "MOMALISA_URL": ""}
    environment |= {"MOMALISA_BUCKET": str(tmp_path / "bucket"), "MOMALISA_LOG_FORMAT": "json"}
    environment["MOMALISA_DATABASE_URL"] = f"sqlite:///{tmp_path}/catalogue.sqlite"
    command = [str(SCRIPTS / "momalisa"), "walk", "--local", "--out", str(tmp_path / "walk.gif"), "a sun", "waves"]
    process = start(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    reason = next(line for line in process.stderr if line.startswith("Not ready yet: The vae"))
    assert reason.startswith(
        "Not ready yet: The vae of mine is null. It must be AutoencoderKL or AutoencoderTiny of diffusers."
    )
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "\x1b[" not in (tmp_path / ".run" / "up.log").read_text(), "a file needs no colours"


def test_a_reader_that_goes_away_leaves_no_process(tmp_path):
    """`make up | head` must end by itself; users should not have to find and kill its processes."""
    environment = {**os.environ, "MOMALISA_MODEL_ID": str(WEIGHTS), "MOMALISA_BUCKET": str(tmp_path / "bucket")}
    environment["MOMALISA_DATABASE_URL"] = f"sqlite:///{tmp_path}/catalogue.sqlite"
    environment["MOMALISA_PORT"] = str(free_port())
    process = start([str(SCRIPTS / "momalisa"), "up"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    head = subprocess.Popen(["head", "-n", "4"], stdin=process.stdout, stdout=subprocess.PIPE)
    process.stdout.close()
    # Three lines about what was started, and one more, which comes while the processes start.
    wait_until(lambda: len(psutil.Process(process.pid).children(recursive=True)) == 3)
    family = psutil.Process(process.pid).children(recursive=True)
    lines = head.communicate(timeout=60)[0].splitlines()
    errors = process.stderr.read()
    assert process.wait(30) == 0
    process.stderr.close()
    assert len(lines) == 4
    assert errors == b""
    _, alive = psutil.wait_procs(family, timeout=10)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
