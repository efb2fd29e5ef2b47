"""Rules for pods: probes, images, resources, shutdown and disruptions. Each rule yields what is wrong."""

import re
from collections.abc import Iterator

from tests.ops.k8s.kustomize import Manifest
from tests.ops.k8s.manifests import containers, labels, name, of, pod, selects

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
GPU = "nvidia.com/gpu"
SLEEP_S = 5
MOST_RETRIES = 4


def containers_have_probes(manifests: list[Manifest]) -> Iterator[str]:
    for workload, container in containers(manifests):
        for probe in PROBES if workload["kind"] != "Job" else ():
            if not {"httpGet", "exec"} & container.get(probe, {}).keys():
                yield f"{name(workload)} has no {probe}"


def images_are_pinned(manifests: list[Manifest]) -> Iterator[str]:
    for workload, container in containers(manifests):
        tag = re.search(r":([^:/]+)$", container["image"])
        if not tag or tag[1] == "latest":
            yield f"{name(workload)} runs {container['image']}, which has no fixed tag"


def gpu_requests_equal_limits(manifests: list[Manifest]) -> Iterator[str]:
    for workload, container in containers(manifests):
        resources = container["resources"]
        if GPU not in resources.get("limits", {}) | resources.get("requests", {}):
            continue
        if resources.get("requests") != resources.get("limits"):
            yield f"{name(workload)} has a GPU and requests that differ from its limits"
        if workload["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge") != 0:
            yield f"{name(workload)} has a GPU and needs an additional one for a rollout"


def resources_are_declared(manifests: list[Manifest]) -> Iterator[str]:
    for workload, container in containers(manifests):
        requests, limits = (container.get("resources", {}).get(kind, {}) for kind in ("requests", "limits"))
        if not {"cpu", "memory"} <= requests.keys() or "memory" not in limits:
            yield f"{name(workload)} does not declare requests and a memory limit"


def pods_stop_gracefully(manifests: list[Manifest]) -> Iterator[str]:
    """A pod serves requests until its clients have stopped sending them."""
    for workload, container in containers(of(manifests, "Deployment")):
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds")
        if sleep != SLEEP_S:
            yield f"{name(workload)} has no preStop sleep of {SLEEP_S} s"
        if pod(workload).get("terminationGracePeriodSeconds", 0) < SLEEP_S + 8:
            yield f"{name(workload)} has too short a termination grace period"


def disruptions_are_limited(manifests: list[Manifest]) -> Iterator[str]:
    budgets = of(manifests, "PodDisruptionBudget")
    for workload in of(manifests, "Deployment"):
        if not any(selects(budget["spec"]["selector"], labels(workload)) for budget in budgets):
            yield f"{name(workload)} has no PodDisruptionBudget"
        spread = pod(workload).get("topologySpreadConstraints", [])
        if not any(selects(one["labelSelector"], labels(workload)) for one in spread):
            yield f"{name(workload)} is not spread over nodes"
        if any("pod-template-hash" not in one.get("matchLabelKeys", []) for one in spread):
            yield f"{name(workload)} also counts the pods of its last release when it spreads the new ones"


def failed_jobs_keep_their_logs(manifests: list[Manifest]) -> Iterator[str]:
    """With OnFailure, the Job's controller deletes the only pod when it gives up. More retries take too long."""
    for job in of(manifests, "Job"):
        if pod(job).get("restartPolicy") != "Never" or job["spec"].get("backoffLimit", 6) > MOST_RETRIES:
            yield f"{name(job)} deletes the logs of its failures, or retries for too long"
