"""How the fake Kubernetes applies patches: the three types that Ansible sends, and which fields are immutable."""

import copy
from collections.abc import Iterator
from typing import Any

from tests.ops.k8s.kustomize import Manifest

IMMUTABLE = {"Job": ("selector", "template", "completionMode"), "Deployment": ("selector",), "Service": ("clusterIP",)}
# A StatefulSet's mutable fields; all others are immutable.
MUTABLE_IN_SETS = {"replicas", "template", "updateStrategy", "minReadySeconds", "revisionHistoryLimit"}


class UnsupportedPatch(Exception):
    """The fake does not implement this patch."""


def patched(content: str, before: Manifest, patch: Any) -> Manifest:
    """A copy of an object after a patch. Raises UnsupportedPatch."""
    if content == "strategic-merge-patch" and _has_lists(patch):
        raise UnsupportedPatch("The fake Kubernetes does not merge lists strategically.")
    if content not in ("strategic-merge-patch", "merge-patch", "apply-patch+yaml"):
        raise UnsupportedPatch(f"The fake Kubernetes does not implement {content}.")
    merged: Manifest = merge(copy.deepcopy(before), patch)
    return merged


def merge(before: Any, patch: Any) -> Any:
    """RFC 7396. A server-side apply is treated the same: lists are replaced."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = before if isinstance(before, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def at(manifest: Any, path: str) -> Any:
    """The value at a dotted path; None if there is none."""
    for name in path.split("."):
        manifest = manifest.get(name) if isinstance(manifest, dict) else None
    return manifest


def immutable_changes(before: Manifest, after: Manifest) -> Iterator[str]:
    """The immutable fields that a change would alter."""
    immutable = IMMUTABLE.get(before["kind"], ())
    if before["kind"] == "StatefulSet":
        immutable = tuple(sorted((set(before["spec"]) | set(after["spec"])) - MUTABLE_IN_SETS))
    for name in immutable:
        if before["spec"].get(name) != after["spec"].get(name):
            yield f"spec.{name}"
    if before["kind"] == "Secret" and before.get("type") != after.get("type"):
        yield "type"


def _has_lists(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, dict) and any(_has_lists(each) for each in value.values()))
