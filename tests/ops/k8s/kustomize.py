"""Builds manifests with a real kustomize: an overlay, or the base with some components."""

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

Manifest = dict[str, Any]

REPOSITORY = Path(__file__).parents[3]
# The environment's own kubectl comes first: Debian 12's is too old.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
K8S = REPOSITORY / "k8s"
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
RECIPES = sorted(path.stem for path in (REPOSITORY / "deployment" / "models").glob("*.yml"))
WITHOUT_KEDA = "without-keda"
SKIP = "MOMALISA_SKIP_KUSTOMIZE"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.cache
def tool(path: str = PATH) -> tuple[str, ...]:
    """The command that builds a folder: kubectl or kustomize, with kustomize 5 or newer. Fails if there is none."""
    for name, build, version in (
        ("kubectl", ["kustomize"], ["version", "--client"]),
        ("kustomize", ["build"], ["version"]),
    ):
        if program := shutil.which(name, path=path):
            printed = subprocess.run([program, *version], capture_output=True, text=True, check=False).stdout
            found = re.search(r"(?:Kustomize Version: |^)v(\d+)\.", printed, re.MULTILINE)
            if found and int(found[1]) >= 5:
                return (program, *build)
    if os.environ.get(SKIP):
        pytest.skip(f"kustomize 5 is not installed and {SKIP} is set: no manifests were built")
    pytest.fail(f"kustomize 5 is not installed: install kubectl 1.27 or newer, or kustomize, or skip with {SKIP}=1.")


def build(folder: Path) -> list[Manifest]:
    """The manifests of a kustomization."""
    done = subprocess.run([*tool(), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.load_all(done.stdout, LOADER) if manifest]


def recipe(name: str) -> Manifest:
    """A recipe of a model."""
    found: Manifest = yaml.safe_load((REPOSITORY / "deployment" / "models" / f"{name}.yml").read_text())
    return found


def nodes_for(models: Iterable[str]) -> list[str]:
    """The components with the nodes that these models need."""
    kinds = {recipe(name)["resources"]["gpu"] for name in models}
    return sorted(f"nodes-{kind}" for kind in kinds if kind)


def build_with(
    folder: Path, components: Iterable[str], models: Iterable[str] = ("atelier",), onto: str = "base"
) -> list[Manifest]:
    """The manifests of a base or overlay with these components and models. Writes a kustomization to the folder."""
    k8s = os.path.relpath(K8S, folder)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "momalisa",
        "resources": [f"{k8s}/{onto}", *(f"{k8s}/models/{name}" for name in models)],
        "components": [f"{k8s}/components/{name}" for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return build(folder)
