"""The models in the manifests: each recipe in each overlay, and what its replicas, its weights and its GPU need."""

from pathlib import Path

import pytest
import yaml

from momalisa_api.metrics import Metrics
from scripts.k8s_models import kustomization
from tests.ops.k8s import schemas
from tests.ops.k8s.kustomize import COMPONENTS, K8S, RECIPES, WITHOUT_KEDA, Manifest, build_with, nodes_for, recipe
from tests.ops.k8s.manifests import of, one, pod
from tests.ops.k8s.rules import violations

OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
KLEIN = "model-flux2-klein-4b"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """The base with all components and all models, as in a cluster with KEDA."""
    components = [name for name in COMPONENTS if name != WITHOUT_KEDA]
    return build_with(tmp_path_factory.mktemp("whole"), components, RECIPES)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_model_can_be_added_to_an_overlay(overlay: str, tmp_path: Path):
    """It is one line in an overlay, and one for the nodes of its GPU."""
    built: dict[str, Manifest] = {}
    listed = yaml.safe_load((K8S / "overlays" / overlay / "kustomization.yaml").read_text())["resources"]
    for name in RECIPES:
        (tmp_path / name).mkdir()
        models = [] if f"../../models/{name}" in listed else [name]
        manifests = build_with(tmp_path / name, nodes_for([name]), models, f"overlays/{overlay}")
        assert violations(manifests) == [], name
        assert one(manifests, "Deployment", f"model-{name}")
        built |= {schemas.key(manifest): manifest for manifest in manifests}
    assert schemas.wrong_for_kubernetes(found for found in built.values() if not schemas.is_custom(found)) == []
    assert schemas.wrong_for_controllers([found for found in built.values() if schemas.is_custom(found)]) == []


@pytest.mark.parametrize("name", RECIPES)
def test_a_models_kustomization_is_short_and_made_from_its_recipe(name: str):
    """If it is not: make k8s-models."""
    text = (K8S / "models" / name / "kustomization.yaml").read_text()
    assert text == kustomization(recipe(name))
    assert len(text.splitlines()) <= 25


def test_there_is_a_recipe_for_each_model():
    assert sorted(path.name for path in (K8S / "models").iterdir()) == RECIPES


def test_the_pods_of_two_models_share_nothing_but_the_service(whole: list[Manifest]):
    """A Deployment that selects another one's pods would replace them."""
    selectors = [str(each["spec"]["selector"]) for each in of(whole, "Deployment", "PodDisruptionBudget")]
    models = [each for each in selectors if "momalisa/model" in each]
    assert len(set(models)) == len(RECIPES)
    assert len(models) == 2 * len(RECIPES)


def test_a_gpu_replica_stops_before_the_next_starts(whole: list[Manifest]):
    model = one(whole, "Deployment", KLEIN)
    assert model["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert pod(model)["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod(model)["containers"][0]["image"].startswith("momalisa/model-cuda:")
    assert pod(one(whole, "Deployment", "model-atelier"))["containers"][0]["image"].startswith("momalisa/model:")


def test_replicas_prefer_spot_nodes_and_fall_back_to_others(whole: list[Manifest]):
    """A pod that selects spot nodes stays pending while there are none."""
    assert pod(one(whole, "Deployment", KLEIN))["nodeSelector"] == {"cloud.google.com/compute-class": "momalisa-l4"}
    nodes = one(whole, "ComputeClass", "momalisa-l4")["spec"]
    assert nodes["priorities"] == [{"nodepools": ["gpu-l4-spot"]}, {"nodepools": ["gpu-l4"]}]


def test_only_the_job_fetches_weights(whole: list[Manifest]):
    """A replica that downloads at its start costs GPU minutes, and needs the hub at each of them."""
    job, replica = one(whole, "Job", "fetch-flux2-klein-4b"), one(whole, "Deployment", KLEIN)
    writes = {"name": "weights", "mountPath": "/weights"}
    assert writes in pod(job)["containers"][0]["volumeMounts"]
    assert writes | {"readOnly": True} in pod(replica)["containers"][0]["volumeMounts"]
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in pod(replica)["containers"][0]["env"]
    assert pod(job)["containers"][0]["image"].startswith("momalisa/model:")
    assert not [each for each in of(whole, "Job") if each["metadata"]["name"] == "fetch-atelier"]


def test_replicas_scale_from_zero_by_the_pending_frames_of_their_model(whole: list[Manifest]):
    scaled = one(whole, "ScaledObject", KLEIN)["spec"]
    assert scaled["scaleTargetRef"]["name"] == KLEIN
    assert (scaled["minReplicaCount"], scaled["fallback"]["replicas"]) == (0, 1)
    [trigger] = scaled["triggers"]
    assert (trigger["type"], trigger["metadata"]["format"]) == ("metrics-api", "prometheus")
    assert trigger["metadata"]["valueLocation"] == 'momalisa_frames_pending{model="flux2-klein-4b"}'
    assert "momalisa_frames_pending" in {family.name for family in Metrics()._registry.collect()}
    assert trigger["metadata"]["aggregateFromKubeServiceEndpoints"] == "true"
    assert trigger["metadata"]["aggregationType"] == "max"


def test_a_cluster_without_keda_gets_none_of_its_resources(tmp_path: Path):
    manifests = build_with(tmp_path, [WITHOUT_KEDA], RECIPES)
    assert of(manifests, "ScaledObject") == []
    assert of(manifests, "Deployment")
