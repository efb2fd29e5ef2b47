"""Rules for the models: their pods, scalers, GPUs and weights. Each rule yields what is wrong."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tests.ops.k8s.connection_rules import parts
from tests.ops.k8s.kustomize import Manifest
from tests.ops.k8s.manifests import PART, containers, labels, name, of, pod

MODEL = "momalisa/model"
GPU = "nvidia.com/gpu"
CLASS = "cloud.google.com/compute-class"
GCSFUSE = "gcsfuse.csi.storage.gke.io"


def model_deployments(manifests: list[Manifest]) -> list[Manifest]:
    return [one for one in of(manifests, "Deployment") if labels(one)[PART] == "model"]


def pods_know_their_model(manifests: list[Manifest]) -> Iterator[str]:
    """Pods of two models with one selector would belong to both Deployments."""
    for deployment in model_deployments(manifests):
        model = labels(deployment).get(MODEL, "")
        if not model or deployment["spec"]["selector"]["matchLabels"].get(MODEL) != model:
            yield f"{name(deployment)} does not select the pods of one model"
        if deployment["metadata"]["name"] != f"model-{model}":
            yield f"{name(deployment)} runs {model}"
    for _, container in containers(manifests):
        for variable in container.get("env", []):
            field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            if variable["name"] == "MOMALISA_RECIPES" and field != f"metadata.labels['{MODEL}']":
                yield f"{container['name']} does not take its recipe from its label"


def scalers_count_frames_of_their_model(manifests: list[Manifest]) -> Iterator[str]:
    targets = {one["metadata"]["name"]: labels(one).get(MODEL) for one in model_deployments(manifests)}
    for scaler in of(manifests, "ScaledObject"):
        model = targets.get(scaler["spec"]["scaleTargetRef"]["name"])
        for trigger in scaler["spec"]["triggers"]:
            if trigger["metadata"]["valueLocation"] != f'momalisa_frames_pending{{model="{model}"}}':
                yield f"{name(scaler)} does not count the frames of {model}"


def the_api_allows_the_models(manifests: list[Manifest]) -> Iterator[str]:
    """A model that is named and not deployed would count as pending for ever."""
    deployed = {labels(one).get(MODEL) for one in model_deployments(manifests)}
    for found in of(manifests, "ConfigMap"):
        allowed = set(re.split(r"[\s,]+", found["data"].get("MOMALISA_MODELS", "*"))) - {""}
        if allowed != {"*"} and allowed != deployed:
            yield f"{name(found)} allows {sorted(allowed)}, but {sorted(map(str, deployed))} are deployed"


def gpu_pods_have_nodes(manifests: list[Manifest]) -> Iterator[str]:
    classes = {one["metadata"]["name"] for one in of(manifests, "ComputeClass")}
    for workload, container in containers(manifests):
        if GPU not in container["resources"].get("limits", {}):
            continue
        wanted = pod(workload).get("nodeSelector", {}).get(CLASS)
        if wanted not in classes:
            yield f"{name(workload)} selects nodes of {wanted}, which no ComputeClass describes"
        if not {GPU, CLASS} <= {one["key"] for one in pod(workload).get("tolerations", [])}:
            yield f"{name(workload)} does not tolerate the taints of GPU nodes"


def weights_are_within_reach(manifests: list[Manifest]) -> Iterator[str]:
    """gcsfuse runs in the pod, so the pod's policies are its own."""
    in_bucket = any(one["spec"].get("csi", {}).get("driver") == GCSFUSE for one in of(manifests, "PersistentVolume"))
    policies = of(manifests, "NetworkPolicy")
    reached = {
        part for one in policies if one["metadata"]["name"] == "storage" for part in parts(one["spec"]["podSelector"])
    }
    if policies and ("model" in reached) != in_bucket:
        yield "replicas cannot reach the bucket of weights" if in_bucket else "replicas reach the internet without need"


def pools_fit(manifests: list[Manifest], pools: Iterable[Manifest], machines: dict[str, Any]) -> Iterator[str]:
    """What is wrong between pods with GPUs and GKE's node pools.

    pools: node pools as in Google's API. machines: machine type -> {cpus, memory_gib} that its pods can request.
    """
    by_name = {pool["name"]: pool for pool in pools}
    of_class = {one["metadata"]["name"]: one["spec"]["priorities"] for one in of(manifests, "ComputeClass")}
    for deployment in model_deployments(manifests):
        wanted = pod(deployment).get("nodeSelector", {}).get(CLASS)
        if wanted is None:
            continue
        found = [pool for rule in of_class[wanted] for pool in rule["nodepools"]]
        yield from (f"{wanted} uses the pool {pool}, which does not exist" for pool in found if pool not in by_name)
        for pool in (by_name[pool] for pool in found if pool in by_name):
            yield from _pool_fits(deployment, pool, wanted, machines)


def _pool_fits(deployment: Manifest, pool: Manifest, wanted: str, machines: dict[str, Any]) -> Iterator[str]:
    config, spec = pool["config"], pod(deployment)
    if config.get("labels", {}).get(CLASS) != wanted:
        yield f"the nodes of {pool['name']} are not of {wanted}"
    if config["accelerators"][0]["acceleratorType"] not in KINDS[wanted.removeprefix("momalisa-")]:
        yield f"the nodes of {pool['name']} have another GPU than {wanted}"
    for taint in config["taints"]:
        tolerations = [one for one in spec["tolerations"] if one["key"] == taint["key"]]
        if not any(one["operator"] == "Exists" or one["value"] == taint["value"] for one in tolerations):
            yield f"{name(deployment)} does not tolerate {taint['key']} of {pool['name']}"
    requests, machine = spec["containers"][0]["resources"]["requests"], machines[config["machineType"]]
    needed = (float(requests["cpu"]), float(requests["memory"].removesuffix("Gi")))
    if needed[0] > machine["cpus"] or needed[1] > machine["memory_gib"]:
        yield f"{name(deployment)} does not fit {config['machineType']}"


# The GPUs of each kind, as Google names them.
KINDS = {
    "l4": {"nvidia-l4"},
    "t4": {"nvidia-tesla-t4"},
    "a100": {"nvidia-tesla-a100", "nvidia-a100-80gb"},
    "h100": {"nvidia-h100-80gb"},
}
