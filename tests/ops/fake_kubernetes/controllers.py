"""What the controllers of the made-up Kubernetes do: rollouts, Jobs, Gateways, told by names how slow they are."""

from typing import Any

from tests.ops.k8s.kustomize import Manifest

ADDRESS = "192.0.2.30"
SINCE = "2026-01-01T00:00:00Z"


class Controllers:
    """`looks`: how often a Deployment is looked at, from a change of it, until its rollout is through; else none.
    `stuck`: Deployments whose rollout Kubernetes gives up on. `failing`: Jobs that fail. `gateways`: whether those get
    an address."""

    def __init__(self) -> None:
        self.looks: dict[str, int] = {}
        self.stuck: set[str] = set()
        self.failing: set[str] = set()
        self.gateways = True
        self.left: dict[str, int] = {}

    def told(self, before: Manifest | None, thing: Manifest) -> None:
        """Something was made or changed."""
        kind, name = thing["kind"], thing["metadata"]["name"]
        if kind == "Deployment" and (before is None or before["spec"] != thing["spec"]):
            self.left[name] = self.looks.get(name, 0)
            thing.setdefault("status", {})
            self._rolls(thing)
        elif kind == "Job" and before is None:
            end = "Failed" if name in self.failing else "Complete"
            thing["status"] = {"conditions": [condition(end, "True")]}
        elif kind == "Gateway" and self.gateways:
            address = {"type": "IPAddress", "value": ADDRESS}
            thing["status"] = {"addresses": [address], "conditions": [condition("Programmed", "True")]}

    def looked_at(self, thing: Manifest) -> None:
        """Time goes by with each look."""
        if thing["kind"] == "Deployment" and self.left[thing["metadata"]["name"]] > 0:
            self.left[thing["metadata"]["name"]] -= 1
            self._rolls(thing)

    def _rolls(self, thing: Manifest) -> None:
        """First nobody has seen the change; then one pod of two is new and no third is there yet; then all are new."""
        name, replicas = thing["metadata"]["name"], thing["spec"]["replicas"]
        if self.left[name] > 1:
            return
        through = self.left[name] == 0 and name not in self.stuck
        progress = condition("Progressing", "True", "NewReplicaSetAvailable" if through else "ReplicaSetUpdated")
        if name in self.stuck:
            progress = condition("Progressing", "False", "ProgressDeadlineExceeded")
        thing["status"] = {
            "observedGeneration": thing["metadata"]["generation"],
            "replicas": replicas,
            "updatedReplicas": replicas if through else replicas - 1,
            "readyReplicas": replicas,
            "availableReplicas": replicas,
            "conditions": [condition("Available", "True"), progress],
        }


def condition(kind: str, status: str, reason: str = "MadeUp") -> dict[str, Any]:
    """As Kubernetes writes one."""
    return {"type": kind, "status": status, "reason": reason, "message": "made up", "lastTransitionTime": SINCE}
