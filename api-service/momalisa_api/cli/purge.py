"""Deletes a walk with its films and frames."""

from momalisa_api.problems import Gone
from momalisa_api.store.bucket import Bucket
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.walks.fingerprints import fingerprint_key
from momalisa_api.walks.spec import Recipe
from momalisa_api.walks.walk import Walk


async def purge_walk(catalogue: Catalogue, bucket: Bucket, walk_id: str) -> int:
    """Delete a walk, its films, and the frames that no other walk uses. Returns the number of deleted objects.

    The frames of a walk that this release cannot read are unknown, and stay. Raises WalkNotFound. The walk is deleted
    first: if this is interrupted, nobody can reach the rest, and requesting and purging the walk again deletes it.
    """
    try:
        recipes = set((await catalogue.get(walk_id)).recipes)
    except Gone:
        recipes = set()
    kept = await _keys_of_others(catalogue, walk_id, recipes) if recipes else set[str]()
    await catalogue.remove(walk_id)
    there = set(await bucket.present(f"walks/{walk_id}/"))
    for recipe in recipes:
        # This includes frames that were only rendered to find the spacing.
        there |= await bucket.present(recipe.folder) - kept
    for key in there:
        await bucket.delete(key)
    return len(there)


async def _keys_of_others(catalogue: Catalogue, walk_id: str, recipes: set[Recipe]) -> set[str]:
    """The keys that other walks use of these recipes, and maybe more."""
    kept: set[str] = set()
    async for other in catalogue.walks_along({(recipe.start, recipe.end) for recipe in recipes}):
        if other.id != walk_id and recipes & set(other.recipes):
            kept |= _keys_of(other)
    return kept


def _keys_of(walk: Walk) -> set[str]:
    """The keys of a walk's frames so far, and of the files stored with them."""
    frames = walk.layout.frames(walk.spec)
    beside = {key for frame in frames for key in (frame.recipe.marked_key, frame.recipe.truncated_key)}
    beside |= {fingerprint_key(frame.recipe, name) for frame in frames for name in walk.fingerprints}
    return beside | {frame.key for frame in frames}
