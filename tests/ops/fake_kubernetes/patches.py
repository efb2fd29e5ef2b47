"""How Kubernetes takes a change: the three patches that Ansible sends, and what may not be changed at all."""

import copy
from collections.abc import Iterator
from typing import Any

from tests.ops.k8s.kustomize import Manifest

FIXED = {"Job": ("selector", "template", "completionMode"), "Deployment": ("selector",), "Service": ("clusterIP",)}
# What a StatefulSet lets go of; the rest of it stays as it was made.
CHANGEABLE_IN_SETS = {"replicas", "template", "updateStrategy", "minReadySeconds", "revisionHistoryLimit"}


class Unknown(Exception):
    """A patch that is not made up here."""


def patched(content: str, before: Manifest, patch: Any) -> Manifest:
    """A copy of an object after a patch. Raises Unknown."""
    if content == "strategic-merge-patch" and _has_lists(patch):
        raise Unknown("A strategic merge of lists is not made up.")
    if content not in ("strategic-merge-patch", "merge-patch", "apply-patch+yaml"):
        raise Unknown(f"{content} is not made up.")
    merged: Manifest = merge(copy.deepcopy(before), patch)
    return merged


def merge(before: Any, patch: Any) -> Any:
    """RFC 7396. An apply is taken as the same: lists whole, and nobody owns a field."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = before if isinstance(before, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def cannot_change(before: Manifest, after: Manifest) -> Iterator[str]:
    """The fields that were changed, though their kind does not let them be."""
    fixed = FIXED.get(before["kind"], ())
    if before["kind"] == "StatefulSet":
        fixed = tuple(sorted((set(before["spec"]) | set(after["spec"])) - CHANGEABLE_IN_SETS))
    for name in fixed:
        if before["spec"].get(name) != after["spec"].get(name):
            yield f"spec.{name}"
    if before["kind"] == "Secret" and before.get("type") != after.get("type"):
        yield "type"


def _has_lists(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, dict) and any(_has_lists(each) for each in value.values()))
