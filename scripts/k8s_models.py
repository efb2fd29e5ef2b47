"""Writes k8s/models/NAME/kustomization.yaml for each recipe in deployment/models: `make k8s-models`.

The playbook for GKE renders the same template for the models of its deployment.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import jinja2
import yaml

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "deployment" / "models"
TEMPLATE = ROOT / "deployment" / "roles" / "k8s_release" / "templates" / "model.yaml.j2"
MODELS = ROOT / "k8s" / "models"


def kustomization(recipe: dict[str, Any], parts: str = "../../model") -> str:
    """The kustomization of a recipe's model. parts: the path from its folder to k8s/model."""
    template = jinja2.Template(TEMPLATE.read_text(), trim_blocks=True, keep_trailing_newline=True)
    return template.render(recipe=recipe, parts=parts)


def recipes() -> list[dict[str, Any]]:
    return [yaml.safe_load(path.read_text()) for path in sorted(RECIPES.glob("*.yml"))]


def main() -> None:
    shutil.rmtree(MODELS, ignore_errors=True)
    for recipe in recipes():
        folder = MODELS / recipe["name"]
        folder.mkdir(parents=True)
        (folder / "kustomization.yaml").write_text(kustomization(recipe))


if __name__ == "__main__":
    sys.exit(main())
