"""Rules for privileges and secrets. Each rule yields what is wrong."""

import re
from collections.abc import Iterator

from tests.ops.k8s.kustomize import Manifest
from tests.ops.k8s.manifests import containers, env, name, of, pod, workloads


def pods_are_unprivileged(manifests: list[Manifest]) -> Iterator[str]:
    """Pods do not run as root and have no access to the Kubernetes API."""
    for workload in workloads(manifests):
        context = pod(workload).get("securityContext", {})
        if not context.get("runAsNonRoot") or not context.get("runAsUser"):
            yield f"{name(workload)} may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name(workload)} has no seccomp profile"
        if pod(workload).get("automountServiceAccountToken") is not False:
            yield f"{name(workload)} gets a token of its service account"
    for account in of(manifests, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{name(account)} mounts its token into pods"


def containers_are_locked_down(manifests: list[Manifest]) -> Iterator[str]:
    for workload, container in containers(manifests):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{name(workload)} may gain privileges"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{name(workload)} has a writable root file system"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name(workload)} keeps capabilities"


def manifests_contain_no_secrets(manifests: list[Manifest]) -> Iterator[str]:
    for secret in of(manifests, "Secret"):
        yield f"{name(secret)} is in the repository"
    for workload, container in containers(manifests):
        for variable, value in env(container).items():
            if value is not None and re.search("PASSWORD|DATABASE_URL|SECRET|TOKEN", variable):
                yield f"{name(workload)} has {variable} as plain text"
