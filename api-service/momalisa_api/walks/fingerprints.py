"""Which replicas rendered the frames of a recipe: a small object beside the frames for each fingerprint. Pure.

The objects belong to the recipe and not to a frame: where there are several, or none, nobody can tell which replica
rendered which frame.
"""

from collections.abc import Collection, Iterable
from typing import Final

from momalisa_api.walks.recipe import Recipe
from momalisa_api.walks.spec import Frame

# The fingerprint of replicas that do not tell theirs, and of frames that were stored without one.
UNKNOWN: Final = ""
MIXED: Final = (
    "Not all frames of this walk are known to come from replicas with the same fingerprint, so neighbouring frames may "
    "differ slightly. The metadata of its films lists the fingerprints."
)
_NAME: Final = "fingerprint-"
_SUFFIX: Final = ".txt"


def fingerprint_key(recipe: Recipe, fingerprint: str) -> str:
    """Key that exists if replicas with a fingerprint rendered frames of a recipe; written before those frames."""
    return f"{recipe.folder}{_NAME}{fingerprint}{_SUFFIX}"


def new_marks(recipe: Recipe, fingerprint: str, held: Collection[str]) -> list[str]:
    """Keys to write before the first frame with a fingerprint: its own, and UNKNOWN's for frames that have none so far.

    Otherwise its key would seem to be that of all frames. held: all keys in the bucket under the recipe.
    """
    before = f"{recipe.folder}{_NAME}"
    marked = any(key.startswith(before) for key in held)
    frames = any(key.startswith(recipe.folder) and key.endswith(".png") for key in held)
    names = [fingerprint] if marked or not frames else [UNKNOWN, fingerprint]
    return [key for name in names if (key := fingerprint_key(recipe, name)) not in held]


def fingerprints_of(frames: Iterable[Frame], held: Collection[str]) -> frozenset[str]:
    """The fingerprints that stored frames may have, UNKNOWN for frames without any.

    held: all keys in the bucket under the recipes of the frames.
    """
    found = frozenset[str]()
    for recipe in {frame.recipe for frame in frames if frame.key in held}:
        before = f"{recipe.folder}{_NAME}"
        marks = (key for key in held if key.startswith(before))
        found |= {mark.removeprefix(before).removesuffix(_SUFFIX) for mark in marks} or {UNKNOWN}
    return found
