"""What must be true of pods: probes, images, resources, how they go, what they may do. Each rule says what is wrong."""

import re
from collections.abc import Iterator

from tests.ops.k8s.kustomize import Manifest
from tests.ops.k8s.manifests import containers, labels, name, of, pod, selects

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
GPU = "nvidia.com/gpu"
SLEEP_S = 5


def probes_on_everything(manifests: list[Manifest]) -> Iterator[str]:
    for workload, container in containers(manifests):
        for probe in PROBES if workload["kind"] != "Job" else ():
            if not {"httpGet", "exec"} & container.get(probe, {}).keys():
                yield f"{name(workload)} has no {probe}"


def images_are_pinned(manifests: list[Manifest]) -> Iterator[str]:
    for workload, container in containers(manifests):
        tag = re.search(r":([^:/]+)$", container["image"])
        if not tag or tag[1] == "latest":
            yield f"{name(workload)} runs {container['image']}, whatever that is by then"


def gpus_are_asked_for_whole(manifests: list[Manifest]) -> Iterator[str]:
    for workload, container in containers(manifests):
        resources = container["resources"]
        if GPU not in resources.get("limits", {}) | resources.get("requests", {}):
            continue
        if resources.get("requests") != resources.get("limits"):
            yield f"{name(workload)} has a GPU, and requests that are not its limits"
        if workload["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge") != 0:
            yield f"{name(workload)} has a GPU, and wants a spare one to be rolled"


def resources_are_said(manifests: list[Manifest]) -> Iterator[str]:
    for workload, container in containers(manifests):
        requests, limits = (container.get("resources", {}).get(kind, {}) for kind in ("requests", "limits"))
        if not {"cpu", "memory"} <= requests.keys() or "memory" not in limits:
            yield f"{name(workload)} does not say what it needs"


def goes_slowly(manifests: list[Manifest]) -> Iterator[str]:
    """A pod goes on answering until whoever calls it has heard that it goes."""
    for workload, container in containers(of(manifests, "Deployment")):
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds")
        if sleep != SLEEP_S:
            yield f"{name(workload)} has no preStop sleep of {SLEEP_S} s"
        if pod(workload).get("terminationGracePeriodSeconds", 0) < SLEEP_S + 8:
            yield f"{name(workload)} is killed before it could end"


def disruptions_are_borne(manifests: list[Manifest]) -> Iterator[str]:
    budgets = of(manifests, "PodDisruptionBudget")
    for workload in of(manifests, "Deployment"):
        if not any(selects(budget["spec"]["selector"], labels(workload)) for budget in budgets):
            yield f"{name(workload)} has no PodDisruptionBudget"
        spread = pod(workload).get("topologySpreadConstraints", [])
        if not any(selects(one["labelSelector"], labels(workload)) for one in spread):
            yield f"{name(workload)} is not spread over nodes"
