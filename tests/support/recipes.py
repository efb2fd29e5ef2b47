"""Model recipes as files, for replicas that load small models by recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.support.processes import REPOSITORY

RECIPES = REPOSITORY / "deployment" / "models"


def recipe_fields(name: str, model_id: object, **more: Any) -> dict[str, Any]:
    """The fields of a valid recipe."""
    fields = {"name": name, "model_id": str(model_id), "license": "CC0-1.0", "commercial": True, "download_gb": 0.1}
    return fields | {"resources": {"gpu": None, "memory_gib": 1, "cpus": 1}} | more


def write_recipe(folder: Path, name: str, model_id: object, **more: Any) -> Path:
    """The file of a recipe in a folder."""
    file = folder / f"{name}.yml"
    file.write_text(yaml.safe_dump(recipe_fields(name, model_id, **more)))
    return file
