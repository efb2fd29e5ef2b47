"""What operators may do about the public wall: take a walk down, remove it with its pictures, keep prompts out."""

import re
from pathlib import Path

from momalisa_api.problems import PromptBlocked
from momalisa_api.store.bucket import Bucket
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.walks.spec import WalkSpec
from momalisa_api.walks.walk import Walk


class Blocklist:
    """Words and phrases that no prompt may hold: one a line, whole words, case ignored; # begins a comment."""

    def __init__(self, path: Path | None) -> None:
        """path: None blocks nothing. Raises OSError where the file cannot be read."""
        lines = path.read_text().splitlines() if path else []
        phrases = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        # Any white space between the words of a phrase counts as one blank.
        blocked = "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in phrases)
        self._pattern = re.compile(rf"(?<!\w)(?:{blocked})(?!\w)", re.IGNORECASE) if phrases else None

    def check(self, spec: WalkSpec) -> None:
        """Raises PromptBlocked, which does not say the word: it would only teach how to get round it."""
        if self._pattern and any(self._pattern.search(stop) for stop in spec.stops):
            raise PromptBlocked("This deployment does not paint one of these prompts. Choose other words.")


async def purge(catalogue: Catalogue, bucket: Bucket, walk_id: str) -> int:
    """Remove a walk, its films, and the frames that no other walk uses. Returns how many objects went.

    Raises WalkUnknown. The walk goes first: should this be cut off, the rest is unreachable, and purging it again by
    asking for the walk anew finds it.
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
        # Among them what was looked at on the way, and is in no walk.
        there |= await bucket.present(recipe.folder) - kept
    for key in there:
        await bucket.delete(key)
    return len(there)


def _keys_of(walk: Walk) -> set[str]:
    """A walk's frames so far, and what may lie beside them."""
    frames = walk.layout.frames(walk.spec)
    beside = {key for frame in frames for key in (frame.recipe.marked_key, frame.recipe.unheard_key)}
    return beside | {frame.key for frame in frames}
