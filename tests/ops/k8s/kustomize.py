"""The manifests as a real kustomize builds them: an overlay, or the base with any components."""

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
SKIP = "MOMALISA_SKIP_KUSTOMIZE"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.cache
def tool(path: str = PATH) -> tuple[str, ...]:
    """The command that builds a folder: kubectl's kustomize 5 or newer, or kustomize. Fails where there is none."""
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
        pytest.skip(f"no kustomize 5 here, and {SKIP} is set: no manifest was built")
    pytest.fail(f"No kustomize 5 here: install kubectl 1.27 or newer, or kustomize; {SKIP}=1 goes without.")


def build(folder: Path) -> list[Manifest]:
    """What a kustomization comes to."""
    done = subprocess.run([*tool(), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.load_all(done.stdout, LOADER) if manifest]


def build_with(folder: Path, components: Iterable[str]) -> list[Manifest]:
    """The base with these components, in a kustomization written into a folder."""
    k8s = os.path.relpath(K8S, folder)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "momalisa",
        "resources": [f"{k8s}/base"],
        "components": [f"{k8s}/components/{name}" for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return build(folder)
