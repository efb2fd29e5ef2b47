"""The process as an operator runs it: started, used, and stopped while it renders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.model_server import wait_until
from tests.support.processes import start


@pytest.fixture
def process(models: dict[str, Path], free_port: int, tmp_path: Path) -> Iterator[tuple[subprocess.Popen, str, Path]]:
    """momalisa-model in a process of its own: (process, url, log)."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MOMALISA_", "MODEL_"))}
    environment |= {"MODEL_ID": str(models["plain"]), "MOMALISA_PORT": str(free_port), "MOMALISA_DEVICE": "cpu"}
    environment |= {"MOMALISA_SHUTDOWN_GRACE_S": "1", "MOMALISA_THREADS": "1"}
    log = tmp_path / "log"
    with log.open("wb") as file:
        running = start([sys.executable, "-m", "momalisa_model.command"], env=environment, stdout=file, stderr=file)
        try:
            yield running, f"http://127.0.0.1:{free_port}", log
        finally:
            running.kill()
            running.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_a_replica_stops_within_seconds_in_the_middle_of_a_shard(process):
    """As in a rolling update or after Ctrl-C. The caller gets an error that tells it to use another replica."""
    running, url, log = process
    wait_until(lambda: answers(url + "/readyz"), 60)
    card = httpx.get(url + "/v1/model").json()["card"]
    kept = ("width", "height", "negative_prompt", "scheduler", "model", "revision", "guidance_scale")
    recipe = {name: card[name] for name in kept} | {
        "start": "a secret " * 20,
        "end": "b",
        "seed": 0,
        "num_inference_steps": 100,
    }
    body = {"recipe": recipe, "fractions": [i / 255 for i in range(256)]}
    with httpx.stream("POST", url + "/v1/render", json=body, timeout=60) as answer:
        lines = answer.iter_lines()
        assert "fingerprint" in next(lines)
        running.send_signal(signal.SIGTERM)
        began = time.monotonic()
        *_, last = lines
    assert json.loads(last)["problem"]["type"] == "urn:momalisa:problem:stopping"
    running.wait(timeout=10)
    assert time.monotonic() - began < 10
    assert "secret" not in log.read_text(), "not even the part of a prompt that is cut"
    # Every line is JSON: no progress bars, no notices of the libraries, no start messages of uvicorn.
    lines_of_log = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines_of_log][:4] == ["starting", "loading", "model card", "ready"]
    assert not any("Traceback" in json.dumps(line) or "exception" in line for line in lines_of_log), lines_of_log


@pytest.mark.parametrize("module", ["momalisa_model.problems", "pydantic_settings", "torch"])
def test_ctrl_c_during_imports_ends_with_one_line(module):
    """torch and its like take seconds, and impatient operators press Ctrl-C in the first one."""
    script = f"""
import sys, importlib.abc
class Interrupts(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        if name == {module!r}:
            import os, signal
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                raise ImportError if name == "torch" else KeyboardInterrupt  # as NumPy's modules in C do
sys.meta_path.insert(0, Interrupts())
from momalisa_model.command import main
main(["card"])
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=100)
    assert (ended.returncode, ended.stderr) == (130, "momalisa-model: stopped\n")


@pytest.mark.parametrize(
    ("command", "environment", "expected"),
    [
        ("serve", {"MOMALISA_THREADS": "many"}, "MOMALISA_THREADS: "),
        ("serve", {"MOMALISA_PORT": "99999"}, "MOMALISA_PORT: "),
        ("card", {"MODEL_ID": "/nowhere"}, "MODEL_ID"),
        ("card", {"MOMALISA_MODEL_CARD": "/nowhere.json"}, "MOMALISA_MODEL_CARD"),
    ],
)
def test_a_wrong_setting_is_reported_in_one_sentence(models, command, environment, expected):
    """A traceback helps programmers only."""
    environment = {**os.environ, "MODEL_ID": str(models["plain"]), "MOMALISA_DEVICE": "cpu", **environment}
    arguments = [sys.executable, "-m", "momalisa_model.command", command]
    ended = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert ended.returncode == 1
    assert expected in ended.stderr.split("momalisa-model: ")[1]
    assert "MOMALISA_MOMALISA" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_card_command_keeps_the_fields_of_an_incomplete_card(models, tmp_path):
    """The atelier's card is made like this: chosen fields from a file, the others from the weights."""
    about = {"title": "Small", "examples": [["a red sun", "blue waves"]], "words": ["red", "sun"]}
    overrides = tmp_path / "overrides.json"
    overrides.write_text(json.dumps({"model": "small", "micro_batch": 5, "about": about}))
    environment = {**os.environ, "MODEL_ID": str(models["plain"]), "MOMALISA_DEVICE": "cpu"}
    environment |= {"MOMALISA_MODEL_CARD": str(overrides)}
    arguments = [sys.executable, "-m", "momalisa_model.command", "card"]
    ended = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert ended.returncode == 0, ended.stderr
    card = json.loads(ended.stdout)
    assert (card["model"], card["micro_batch"], card["token_limit"]) == ("small", 5, 20)
    assert card["about"]["examples"] == about["examples"]
    assert card["about"]["words"] == about["words"]
