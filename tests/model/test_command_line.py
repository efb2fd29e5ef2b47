"""No arguments and no environment make `momalisa-model` print a traceback: random cases in one process.

Nothing is served or downloaded.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import traceback
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from momalisa_model import app, command, hub, logs, model_files
from momalisa_model.problems import UnsuitableModel
from momalisa_model.settings import Settings

CASES = 200
SEED = int(os.environ.get("MOMALISA_SEED") or 13)
STRANGE = (
    *(
        "",
        " ",
        "a",
        "a/b",
        "a/b/c",
        "ü🦒",
        "\udcff",
        "\udcff/b",
        "x" * 300,
        "x" * 80,
        "\n",
        "..",
        "/",
        "/nowhere",
        "file",
    ),
    *("0", "1", "-1", "1.5", "٣", "9" * 5000, "nan", "inf", "true", "auto", "cuda", "float16", "json", "http://[::1"),
)
VARIABLES = [f"MOMALISA_{name.upper()}" for name in Settings.model_fields]
VARIABLES += ["MODEL_ID", "MODEL_REVISION", "MODEL_CONFIG", "AIP_HTTP_PORT", "AIP_PREDICT_ROUTE", "AIP_HEALTH_ROUTE"]


def refuse_download(*_: object, **__: object) -> NoReturn:
    raise OSError("no network")


def find_only(settings: Settings) -> NoReturn:
    """Find the model that the settings name, as `load` does at first."""
    model_files.find_files(settings.model_id, settings.model_revision, lambda _: torch.float32, print)
    raise UnsuitableModel("Found.")


@pytest.fixture
def harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name in VARIABLES]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setattr(app, "run", lambda *_: None)
    monkeypatch.setattr(app, "load", find_only)
    monkeypatch.setattr(logs, "configure_logs", lambda _: None)
    monkeypatch.setattr(hub, "snapshot_download", refuse_download)


def outcome(arguments: list[str], environment: dict[str, str]) -> object:
    """The exit code or message, or the traceback of what should have been a sentence."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            command.main(arguments)
        except SystemExit as end:
            return end.code
        except BaseException:
            return traceback.format_exc()
    return 0


def test_no_arguments_and_no_environment_make_a_traceback(harmless, capsys):
    """MOMALISA_SEED repeats or changes the cases."""
    dice = random.Random(SEED)
    reached = 0
    for number in range(CASES):
        fetch = ["fetch", *dice.choices(STRANGE, k=dice.randrange(2))]
        arguments = dice.choice((["card"], ["card"], ["serve"], [], [dice.choice(STRANGE)], ["card", "serve"], fetch))
        environment = {dice.choice(VARIABLES): dice.choice(STRANGE) for _ in range(dice.randrange(3))}
        environment["MODEL_ID"] = environment.get("MODEL_ID", "file")
        code = outcome(arguments, environment)
        case = f"case {number} of seed {SEED}: {json.dumps(environment)} momalisa-model {arguments}"
        assert "Traceback" not in str(code), f"{case}\n{code}"
        assert code in (0, 2) or str(code).startswith("momalisa-model: "), f"{case}\n{code}"
        reached += code == 0 or "MODEL_ID" in str(code)
    assert reached > CASES / 5


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"MOMALISA_HOST": "\udcff"}, "MOMALISA_HOST: must be a host name or an address."),
        ({"MODEL_ID": "x" * 300}, "The folder in MODEL_ID does not exist."),
        ({"MOMALISA_RECIPES": "atelier sd15"}, "A card is for one model."),
        ({"MOMALISA_RECIPES": "sd16"}, "There is no model recipe sd16."),
    ],
    ids=["host", "model", "recipes", "recipe"],
)
def test_what_went_wrong_is_a_sentence(harmless, environment, sentence):
    assert f"momalisa-model: {sentence}" in str(outcome(["card"], environment))


def test_libraries_that_cannot_be_loaded_are_a_sentence():
    """They read the environment when they are imported."""
    card = [sys.executable, "-m", "momalisa_model.command", "card"]
    environment = {**os.environ, "HF_HUB_DOWNLOAD_TIMEOUT": "soon"}
    done = subprocess.run(card, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "its libraries cannot be loaded: invalid literal" in done.stderr
    assert "Traceback" not in done.stderr
