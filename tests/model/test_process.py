"""The process as an operator has it: started, asked, and stopped in mid-render."""

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

from tests.support import processes
from tests.support.model_server import wait_until


@pytest.fixture
def free_port() -> int:
    return processes.free_port()


@pytest.fixture
def process(models: dict[str, Path], free_port: int, tmp_path: Path) -> Iterator[tuple[subprocess.Popen, str, Path]]:
    """momalisa-model in a process of its own: (process, url, log)."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MOMALISA_", "MODEL_"))}
    environment |= {"MODEL_ID": str(models["plain"]), "MOMALISA_PORT": str(free_port), "MOMALISA_DEVICE": "cpu"}
    environment |= {"MOMALISA_SHUTDOWN_GRACE_S": "1", "MOMALISA_THREADS": "1"}
    log = tmp_path / "log"
    with log.open("wb") as file:
        running = subprocess.Popen([sys.executable, "-m", "momalisa_model.app"], env=environment, stderr=file)
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
    """A rolling update, or Ctrl-C, which goes the same way: nobody hangs, and the caller is told to ask elsewhere."""
    running, url, log = process
    wait_until(lambda: answers(url + "/readyz"), 60)
    card = httpx.get(url + "/v1/model").json()["card"]
    kept = ("width", "height", "negative_prompt", "scheduler", "model", "revision", "guidance_scale")
    recipe = {name: card[name] for name in kept} | {"start": "a", "end": "b", "seed": 0, "num_inference_steps": 100}
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
    # Every line is one of ours: no progress bars, no notices of the libraries, nothing of uvicorn's own start.
    written = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in written][:4] == ["starting", "loading", "model card", "ready"]
    assert not any("Traceback" in json.dumps(line) or "exception" in line for line in written), written


@pytest.mark.parametrize(
    ("command", "environment", "said"),
    [
        ("serve", {"MOMALISA_THREADS": "many"}, "MOMALISA_THREADS: "),
        ("serve", {"MOMALISA_PORT": "99999"}, "MOMALISA_PORT: "),
        ("card", {"MODEL_ID": "/nowhere"}, "MODEL_ID"),
        ("card", {"MOMALISA_MODEL_CARD": "/nowhere.json"}, "MOMALISA_MODEL_CARD"),
    ],
)
def test_a_mistake_at_the_terminal_is_answered_with_a_sentence(models, command, environment, said):
    """Not with a traceback, from which only programmers learn."""
    environment = {**os.environ, "MODEL_ID": str(models["plain"]), "MOMALISA_DEVICE": "cpu", **environment}
    arguments = [sys.executable, "-m", "momalisa_model.app", command]
    told = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert told.returncode == 1
    assert said in told.stderr.split("momalisa-model: ")[1]
    assert "Traceback" not in told.stderr


def test_overrides_for_a_card_are_kept_with_their_examples_and_words(models, tmp_path):
    """How the embedded model's card is made: what a person chose from a file, the rest from the weights."""
    about = {"title": "Small", "examples": [["a red sun", "blue waves"]], "words": ["red", "sun"]}
    overrides = tmp_path / "overrides.json"
    overrides.write_text(json.dumps({"model": "small", "micro_batch": 5, "about": about}))
    environment = {**os.environ, "MODEL_ID": str(models["plain"]), "MOMALISA_DEVICE": "cpu"}
    environment |= {"MOMALISA_MODEL_CARD": str(overrides)}
    arguments = [sys.executable, "-m", "momalisa_model.app", "card"]
    told = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert told.returncode == 0, told.stderr
    card = json.loads(told.stdout)
    assert (card["model"], card["micro_batch"], card["token_limit"]) == ("small", 5, 20)
    assert card["about"]["examples"] == about["examples"]
    assert card["about"]["words"] == about["words"]
