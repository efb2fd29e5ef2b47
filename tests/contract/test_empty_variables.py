"""An empty environment variable counts as unset: orchestrators and shells pass those that a user left out."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from momalisa_api.cli import up
from momalisa_api.settings import Settings as ApiSettings
from momalisa_model.settings import Settings as ModelSettings
from tests.support.processes import REPOSITORY

COMPOSE_FILES = [REPOSITORY / "docker-compose.yml", *sorted((REPOSITORY / "deployment").glob("compose.*.yml"))]
MAKE_VARIABLES = {"START": "a red sunburst on yellow", "FRAMES": "25", "SEED": "auto", "OUT": "walk.gif"}
MAKE_VARIABLES |= {"MINUTES": "110", "TORCH_BACKEND": "cpu", "COMBINATIONS": "pairs"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in os.environ:
        if name.startswith(("MOMALISA_", "MODEL_", "AIP_")):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("settings", [ApiSettings, ModelSettings])
def test_empty_settings_are_the_defaults(environment, settings: type[BaseSettings]):
    """Every setting of both services."""
    if settings is ApiSettings:
        environment.setenv("MOMALISA_MODEL_CARD", "card.json")
    defaults = settings()
    for name, field in settings.model_fields.items():
        for variable in getattr(field.validation_alias, "choices", [f"MOMALISA_{name.upper()}"]):
            if name != "model_card" or settings is ModelSettings:
                environment.setenv(str(variable), "")
    assert settings() == defaults


def test_the_next_name_of_a_setting_counts_if_the_first_is_empty(environment):
    """MOMALISA_MODEL_ID and MODEL_ID name the same."""
    environment.setenv("MOMALISA_MODEL_ID", "")
    environment.setenv("MODEL_ID", "some/model")
    assert ModelSettings().model_id == "some/model"


def test_up_ignores_empty_variables(environment):
    """It passes its own choices to the services, and an empty variable does not undo them."""
    for name in ("MOMALISA_REPLICAS", "MOMALISA_THREADS"):
        environment.setenv(name, "")
    passed = up._environment([8101, 8102])
    assert passed["MOMALISA_REPLICAS"] == "http://127.0.0.1:8101 http://127.0.0.1:8102"
    assert int(passed["MOMALISA_THREADS"]) >= 1


@pytest.mark.parametrize("where", ["environment", "arguments"])
def test_empty_make_variables_are_the_defaults(where):
    """`START= make walk` and `make walk START=`. Other values stay as they are."""
    empty = [f"{name}=" for name in (*MAKE_VARIABLES, "PYTHON", "END")]
    show = "show: ; @printf '%s\\n' " + " ".join(f"'$({name})'" for name in MAKE_VARIABLES)
    make = ["make", "--silent", "--no-print-directory", f"--eval={show}", "show"]
    done = subprocess.run(
        ["env", *empty, *make] if where == "environment" else [*make, *empty],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == list(MAKE_VARIABLES.values())


def test_make_passes_other_values_unchanged():
    """Prompts may hold any character."""
    make = ["make", "--silent", "--no-print-directory", '--eval=show: ; @printf "%s" "$$START"', "show"]
    prompt = 'costs $5, (really) "yes" #1'
    done = subprocess.run(
        make, cwd=REPOSITORY, env={**os.environ, "START": prompt}, capture_output=True, text=True, check=True
    )
    assert done.stdout == prompt


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda path: path.name)
def test_compose_files_treat_empty_variables_as_unset(file: Path):
    """${NAME:-default}, not ${NAME-default}; a variable without a default is empty either way."""
    assert re.findall(r"(?<!\$)\$\{\w+[-?+][^}]*\}", file.read_text()) == []
