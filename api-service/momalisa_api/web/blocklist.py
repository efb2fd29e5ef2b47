"""The blocklist of prompts, and the removal of walks with their pictures."""

import re
from pathlib import Path

from momalisa_api.problems import PromptBlocked
from momalisa_api.store.bucket import Bucket
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.walks.spec import WalkSpec
from momalisa_api.walks.walk import Walk


class Blocklist:
    """Words and phrases that prompts must not contain: one per line, whole words, any case; # starts a comment."""

    def __init__(self, path: Path | None) -> None:
        """path: the file; None blocks nothing. Raises OSError if the file cannot be read."""
        lines = path.read_text().splitlines() if path else []
        phrases = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        # Any white space between the words of a phrase matches.
        blocked = "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in phrases)
        self._pattern = re.compile(rf"(?<!\w)(?:{blocked})(?!\w)", re.IGNORECASE) if phrases else None

    def check(self, spec: WalkSpec) -> None:
        """Check a walk's prompts. Raises PromptBlocked, which does not name the word, to not help in avoiding it."""
        if self._pattern and any(self._pattern.search(stop) for stop in spec.stops):
            raise PromptBlocked("One of these prompts is not allowed on this deployment. Use other words.")


async def purge(catalogue: Catalogue, bucket: Bucket, walk_id: str) -> int:
    """Delete a walk, its films, and the frames that no other walk uses. Returns the number of deleted objects.

    Raises WalkNotFound. The walk is deleted first: if this is interrupted, nobody can reach the rest, and requesting
    and purging the walk again deletes it.
    """
    walk = await catalogue.get(walk_id)
    recipes = set(walk.recipes)
    kept: set[str] = set()
    async for other in catalogue.every_walk():
        if other.id != walk_id and recipes & set(other.recipes):
            kept |= _keys_of(other)
    await catalogue.remove(walk_id)
    there = set(await bucket.present(f"walks/{walk_id}/"))
    for recipe in recipes:
        # This includes frames that were only rendered to find the spacing.
        there |= await bucket.present(recipe.folder) - kept
    for key in there:
        await bucket.delete(key)
    return len(there)


def _keys_of(walk: Walk) -> set[str]:
    """The keys of a walk's frames so far, and of the files stored with them."""
    frames = walk.layout.frames(walk.spec)
    beside = {key for frame in frames for key in (frame.recipe.marked_key, frame.recipe.truncated_key)}
    return beside | {frame.key for frame in frames}
