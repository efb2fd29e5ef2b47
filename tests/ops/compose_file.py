"""The compose files and Dockerfiles, parsed."""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.support.processes import REPOSITORY

COMPOSE = REPOSITORY / "docker-compose.yml"
OVERRIDES = sorted((REPOSITORY / "deployment").glob("compose.*.yml"))
DOCKERFILES = sorted(REPOSITORY.glob("*/Dockerfile"))
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """A Dockerfile's instructions as (keyword, arguments), with continued lines joined."""
    joined = dockerfile.read_text().replace("\\\n", " ")
    lines = (line for line in joined.splitlines() if line.strip() and not line.startswith("#"))
    return [(word, rest.strip()) for word, rest in (line.strip().split(maxsplit=1) for line in lines)]


def arguments_of(dockerfile: Path, keyword: str) -> list[str]:
    """The arguments of each instruction with this keyword."""
    return [rest for found, rest in instructions(dockerfile) if found == keyword]


def default(text: str) -> str:
    """A value of the compose file with its defaults, as in an empty environment."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
