"""The files of walks in the bucket: which of them no other walk uses, and their deletion."""

from collections.abc import Collection, Iterable
from typing import Final

import anyio

from momalisa_api.concurrency import task_group
from momalisa_api.store.bucket import Bucket
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.walks.extras import extras_among
from momalisa_api.walks.fingerprints import fingerprint_key
from momalisa_api.walks.recipe import Recipe
from momalisa_api.walks.walk import Walk

CALLS_AT_ONCE: Final = 16


class WalkFiles:
    """Frames and films. Everything raises CatalogueUnavailable and BucketUnavailable."""

    def __init__(self, catalogue: Catalogue, bucket: Bucket) -> None:
        self._catalogue = catalogue
        self._bucket = bucket
        self._calls = anyio.CapacityLimiter(CALLS_AT_ONCE)

    async def of_recipes(self, recipes: Collection[Recipe], but: str | None = None) -> set[str]:
        """The keys of stored frames that no walk uses, with all that is stored beside them.

        This includes frames that were only rendered to find the spacing. but: a walk that does not count.
        """
        found: set[str] = set()

        async def look(recipe: Recipe) -> None:
            async with self._calls:
                found.update(await self._bucket.present(recipe.folder))

        async with task_group() as tasks:
            for recipe in recipes:
                tasks.start_soon(look, recipe)
        return found - await self._used(set(recipes), found, but) if recipes else found

    async def of_walk(self, walk_id: str) -> set[str]:
        """The keys of the films, and of the thumbnails that the spacing was computed from."""
        return set(await self._bucket.present(f"walks/{walk_id}/"))

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete files, many at a time."""

        async def remove(key: str) -> None:
            async with self._calls:
                await self._bucket.delete(key)

        async with task_group() as tasks:
            for key in keys:
                tasks.start_soon(remove, key)

    async def _used(self, recipes: set[Recipe], found: set[str], but: str | None) -> set[str]:
        """The keys that walks use of these recipes, which have one scope, and maybe more. found: all that are stored.

        It is asked after the bucket: a walk that is requested in between keeps its files.
        """
        used: set[str] = set()
        legs, [scope] = {recipe.search_terms for recipe in recipes}, {recipe.scope for recipe in recipes}
        async for walk in self._catalogue.walks_along(legs, scope):
            shared = recipes & set(walk.recipes) if walk.id != but and not walk.frames_removed else set()
            for recipe in shared:
                used |= extras_among(recipe, found)
            if shared:
                used |= _keys_of(walk)
        return used


def _keys_of(walk: Walk) -> set[str]:
    """The keys of a walk's frames so far, and of the files stored with them."""
    frames = walk.layout.frames(walk.spec)
    beside = {key for frame in frames for key in (frame.recipe.marked_key, frame.recipe.truncated_key)}
    beside |= {fingerprint_key(frame.recipe, name) for frame in frames for name in walk.fingerprints}
    return beside | {frame.key for frame in frames}
