"""Files that belong to a recipe beside its frames: a depth map, cut-outs, masks. Their names and keys. Pure."""

from collections.abc import Iterable
from typing import Final

from momalisa_api.walks.recipe import Recipe

# Walks of these kinds have extras. Those of other kinds have none.
KINDS_WITH_EXTRAS: Final = frozenset({"into", "apart"})
EXTRA_TYPES: Final = {"png": "image/png", "json": "application/json"}
_PREFIX: Final = "extra-"
_INDEX: Final = "extras.json"


def extra_key(recipe: Recipe, name: str) -> str:
    """Key of an extra in the bucket."""
    return f"{recipe.folder}{_PREFIX}{name}"


def extras_index_key(recipe: Recipe) -> str:
    """Key of the list of a recipe's extras; written after all of them, and before any frame that comes with them."""
    return f"{recipe.folder}{_INDEX}"


def extra_type(name: str) -> str:
    """The media type of an extra."""
    return EXTRA_TYPES[name.rpartition(".")[2]]


def extras_among(recipe: Recipe, keys: Iterable[str]) -> set[str]:
    """The keys of a recipe's extras, and of their list, among some keys."""
    index, before = extras_index_key(recipe), f"{recipe.folder}{_PREFIX}"
    return {key for key in keys if key == index or key.startswith(before)}
