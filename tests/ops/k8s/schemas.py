"""Validates manifests strictly against the schemas of Kubernetes, the Gateway API, KEDA, GKE and Prometheus."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import kubernetes_validate
import pytest

from tests.ops.k8s.kustomize import REPOSITORY, Manifest

HERE = Path(__file__).parent
# The manifests need 1.30 for preStop sleep. GKE's release channels are newer than this version.
KUBERNETES = "1.33"
CUSTOM = ("gateway.networking.k8s.io", "keda.sh", "networking.gke.io", "monitoring.googleapis.com", "cloud.google.com")


def key(manifest: Manifest) -> str:
    return json.dumps(manifest, sort_keys=True)


def once(manifests: Iterable[Manifest]) -> list[Manifest]:
    """The manifests without duplicates: combinations of components have most manifests in common."""
    return list({key(manifest): manifest for manifest in manifests}.values())


def is_custom(manifest: Manifest) -> bool:
    return str(manifest["apiVersion"]).partition("/")[0] in CUSTOM


def wrong_for_kubernetes(manifests: Iterable[Manifest]) -> list[str]:
    """Violations of Kubernetes' own schemas; unknown fields are violations."""
    found = []
    for manifest in manifests:
        try:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            found.append(f"{manifest['kind']}/{manifest['metadata']['name']}: {error.message}")
    return found


def wrong_for_controllers(manifests: list[Manifest]) -> list[str]:
    """Violations of the types and validators of custom resources. Fails if those are not installed."""
    node = shutil.which("node", path=os.pathsep.join([str(REPOSITORY / ".venv" / "node"), os.environ["PATH"]]))
    if not node or not (HERE / "node_modules").is_dir():
        pytest.fail("The schemas of custom resources are not installed: run npm ci in tests/ops/k8s")
    text = json.dumps([as_operator(manifest) for manifest in manifests])
    done = subprocess.run([node, HERE / "crds.mjs"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def as_operator(manifest: Manifest) -> Manifest:
    """A resource of Google's managed Prometheus, which publishes no types, as the Prometheus operator's equivalent."""
    spec = manifest["spec"]
    if manifest["kind"] == "Rules":
        kind = "PrometheusRule"
    elif manifest["kind"] == "PodMonitoring":
        kind, spec = "PodMonitor", {"selector": spec["selector"], "podMetricsEndpoints": spec["endpoints"]}
    else:
        return manifest
    return {**manifest, "apiVersion": "monitoring.coreos.com/v1", "kind": kind, "spec": spec}
