"""The controllers of the fake Kubernetes: rollouts, Jobs and Gateways, as fast or as slow as a test sets."""

import copy
from typing import Any

from tests.ops.fake_kubernetes.pods import Pods
from tests.ops.k8s.kustomize import Manifest

ADDRESS = "192.0.2.30"
SINCE = "2026-01-01T00:00:00Z"


class Controllers:
    """`rollout_observations`: how often a Deployment is observed until its rollout is complete; default none.
    `stuck`: Deployments that exceed their progress deadline. `failing`: Jobs that fail. `gateways_work`: whether
    Gateways get an address."""

    def __init__(self) -> None:
        self.rollout_observations: dict[str, int] = {}
        self.stuck: set[str] = set()
        self.failing: set[str] = set()
        self.gateways_work = True
        self.observations_left: dict[str, int] = {}
        self.pods = Pods()

    def changed(self, before: Manifest | None, after: Manifest) -> bool:
        """React to a created or changed object. Returns whether that changed its status."""
        kind, name = after["kind"], after["metadata"]["name"]
        status = copy.deepcopy(after.get("status"))
        if kind == "Deployment" and (before is None or before["spec"] != after["spec"]):
            self.observations_left[name] = self.rollout_observations.get(name, 0)
            after.setdefault("status", {})
            self._roll_out(after)
        elif kind == "Job" and before is None:
            end = "Failed" if name in self.failing else "Complete"
            after["status"] = {"conditions": [condition(end, "True")]}
        elif kind == "Gateway" and self.gateways_work:
            address = {"type": "IPAddress", "value": ADDRESS}
            after["status"] = {"addresses": [address], "conditions": [condition("Programmed", "True")]}
        return after.get("status") != status

    def observed(self, observed: Manifest) -> bool:
        """Make progress: observations stand for time. Returns whether the status changed."""
        if observed["kind"] != "Deployment" or self.observations_left[observed["metadata"]["name"]] == 0:
            return False
        status = copy.deepcopy(observed["status"])
        self.observations_left[observed["metadata"]["name"]] -= 1
        self._roll_out(observed)
        return bool(observed["status"] != status)

    def _roll_out(self, deployment: Manifest) -> None:
        """First the status is of the last generation; then one pod of two is new; then all are new."""
        name, replicas = deployment["metadata"]["name"], deployment["spec"]["replicas"]
        if self.observations_left[name] > 1:
            return
        complete = self.observations_left[name] == 0 and name not in self.stuck
        progress = condition("Progressing", "True", "NewReplicaSetAvailable" if complete else "ReplicaSetUpdated")
        if name in self.stuck:
            progress = condition("Progressing", "False", "ProgressDeadlineExceeded")
        deployment["status"] = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": replicas,
            "updatedReplicas": replicas if complete else replicas - 1,
            "readyReplicas": replicas,
            "availableReplicas": replicas,
            "conditions": [condition("Available", "True"), progress],
        }


def condition(kind: str, status: str, reason: str = "Fake") -> dict[str, Any]:
    """A status condition as Kubernetes writes it."""
    return {"type": kind, "status": status, "reason": reason, "message": "fake", "lastTransitionTime": SINCE}
