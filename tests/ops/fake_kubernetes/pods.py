"""The pods of the fake Kubernetes, with their events: what a workload leaves behind as it rolls out or fails."""

import copy
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from tests.ops.k8s.kustomize import Manifest

START = datetime(2026, 1, 1)
OWNERS = ("Deployment", "Job")


class Pods:
    """The pods of each workload. A rollout that is not complete has its old pods and one new pod that is not ready."""

    def __init__(self) -> None:
        self._old: dict[str, list[Manifest]] = {}
        self._made = 0

    def of(self, workload: Manifest) -> Iterator[Manifest]:
        """The pods that a Deployment or Job has now, and the events of those that are not ready."""
        if workload["kind"] == "Deployment":
            yield from self._of_deployment(workload)
        elif workload["kind"] == "Job":
            yield from self._of_job(workload)

    def _of_deployment(self, workload: Manifest) -> Iterator[Manifest]:
        name, spec, status = workload["metadata"]["name"], workload["spec"], workload.get("status", {})
        generation = workload["metadata"]["generation"]
        if status.get("updatedReplicas") == spec["replicas"] and status.get("observedGeneration") == generation:
            self._old[name] = [self._pod(workload, f"{generation}-{number}", "Running", True) for number in range(2)]
            yield from copy.deepcopy(self._old[name])
            return
        yield from copy.deepcopy(self._old.get(name, []))
        new = self._pod(workload, f"{generation}-0", "Running", False)
        yield from (new, event(new, "BackOff", "Back-off restarting failed container"))

    def _of_job(self, workload: Manifest) -> Iterator[Manifest]:
        failed = any(one["type"] == "Failed" for one in workload.get("status", {}).get("conditions", []))
        if not failed:
            yield self._pod(workload, "0", "Succeeded", False)
        elif workload["spec"]["template"]["spec"]["restartPolicy"] == "Never":
            # With OnFailure, the Job's controller deletes the only pod at the backoff limit.
            for number in range(workload["spec"].get("backoffLimit", 6) + 1):
                new = self._pod(workload, str(number), "Failed", False)
                yield from (new, event(new, "Failed", "Error: exit status 1"))

    def _pod(self, workload: Manifest, suffix: str, phase: str, ready: bool) -> Manifest:
        self._made += 1
        template, metadata = copy.deepcopy(workload["spec"]["template"]), workload["metadata"]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{metadata['name']}-{suffix}",
                "namespace": metadata.get("namespace", ""),
                "labels": template["metadata"]["labels"],
                "creationTimestamp": (START + timedelta(seconds=self._made)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
            "spec": template["spec"],
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}]},
        }


def event(about: Manifest, reason: str, message: str) -> Manifest:
    metadata = {"name": f"{about['metadata']['name']}.1", "namespace": about["metadata"]["namespace"]}
    involved = {"kind": "Pod", "name": about["metadata"]["name"]}
    when: dict[str, Any] = {"lastTimestamp": about["metadata"]["creationTimestamp"]}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": metadata,
        "involvedObject": involved,
        "reason": reason,
        "message": message,
    } | when


def log_of(pod: Manifest) -> str:
    """What a pod has written: its own name, so that a test can tell whose log was read."""
    return f"log of {pod['metadata']['name']}\n"
