"""Comparison of a wanted resource with the one that Google returns.

The wanted body is partial. Google adds fields, omits fields with zero values, writes 64-bit numbers as strings, and
refers to other resources by full URLs; none of these is a difference.
"""

from __future__ import annotations

from typing import Any


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """The top-level fields of `wanted` whose values `found` does not have, in their order."""
    return [field for field, value in wanted.items() if not holds(found.get(field), value)]


def holds(found: Any, wanted: Any) -> bool:
    """Whether `found` has all values of `wanted`. Lists must match in length and order; objects may have more keys."""
    if isinstance(wanted, dict) and (isinstance(found, dict) or not found):
        return all(holds((found or {}).get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(holds, found, wanted))
    if not wanted or not found:
        return _is_zero(wanted) and _is_zero(found)
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    return _is_same_text(str(found), str(wanted))


def merged(found: Any, wanted: Any) -> Any:
    """`found` updated with `wanted`: the value to send where Google replaces whole fields."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found | {key: merged(found.get(key), value) for key, value in wanted.items()}
    return wanted


def at(body: dict[str, Any], path: str) -> Any:
    """The value at a dotted path, or None."""
    found: Any = body
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def nested(path: str, value: Any) -> dict[str, Any]:
    """A body with only `value`, at a dotted path."""
    for part in reversed(path.split(".")):
        value = {part: value}
    body: dict[str, Any] = value
    return body


def _is_zero(value: Any) -> bool:
    return value in (None, False, 0, "", "0") or value == {} or value == []


def _is_same_text(found: str, wanted: str) -> bool:
    # projects/p/zones/z/disks/d is returned as https://www.googleapis.com/compute/v1/projects/p/zones/z/disks/d
    return found == wanted or (found.startswith("https://") and found.endswith("/" + wanted.lstrip("/")))
