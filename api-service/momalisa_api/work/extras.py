"""Stores what a replica sends of a recipe beside its frames, and records it with the walks that have the recipe."""

from collections.abc import Collection, Iterable
from typing import Final

import structlog
from pydantic import TypeAdapter

from momalisa_api.concurrency import task_group
from momalisa_api.films.provenance import png_with_xmp, source_of, xmp_of
from momalisa_api.fleet.wire import ExtraName, RenderedExtra
from momalisa_api.store.bucket import Bucket, NotInBucket
from momalisa_api.store.progress import Progress
from momalisa_api.walks.extras import KINDS_WITH_EXTRAS, extra_key, extras_index_key
from momalisa_api.walks.recipe import Recipe
from momalisa_api.walks.walk import Walk

_NAMES: Final = TypeAdapter(list[ExtraName])

log = structlog.get_logger()


class Extras:
    """The extras of recipes. Everything raises BucketUnavailable and CatalogueUnavailable."""

    def __init__(self, bucket: Bucket, progress: Progress) -> None:
        self._bucket = bucket
        self._progress = progress

    async def are_needed(self, walk: Walk, shard: int, recipe: Recipe, held: Collection[str]) -> bool:
        """Whether a replica has to send the extras with a shard. Records those that are stored.

        held: the stored keys of the recipe. The first shard of a plan gets them: it has the first frame that is
        missing, so that nothing is stored without them.
        """
        if recipe.kind not in KINDS_WITH_EXTRAS or shard:
            return False
        await self.record(walk, [recipe], held)
        return extras_index_key(recipe) not in held

    async def record(self, walk: Walk, recipes: Iterable[Recipe], held: Collection[str]) -> None:
        """Record the extras of a walk, if they are stored. held: the stored keys of its recipes."""
        for recipe in recipes:
            if extras_index_key(recipe) in held and not walk.extras:
                await self._progress.has_extras(walk.id, await self._listed(recipe))

    async def store(self, walk: Walk, recipe: Recipe, extras: Collection[RenderedExtra]) -> None:
        """Store extras, then their list, and record them. The first files of a recipe stay."""
        xmp = xmp_of(source_of((*recipe.pictures, *recipe.clips)))
        async with task_group() as tasks:
            for extra in extras:
                tasks.start_soon(self._bucket.put, extra_key(recipe, extra.name), png_with_xmp(extra.content, xmp))
        names = [extra.name for extra in extras]
        if not await self._bucket.put(extras_index_key(recipe), _NAMES.dump_json(names)):
            names = await self._listed(recipe)
        await self._progress.has_extras(walk.id, names)

    async def _listed(self, recipe: Recipe) -> list[str]:
        try:
            return list(_NAMES.validate_json(await self._bucket.get(extras_index_key(recipe))))
        except (NotInBucket, ValueError) as error:
            log.warning("stored list of extras cannot be read", recipe=recipe.id, reason=str(error))
            return []
