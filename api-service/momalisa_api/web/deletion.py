"""Deletes a walk of an owner, or everything. Rows go at once; files that take longer are left to workers."""

from contextlib import suppress
from typing import Final

import anyio

from momalisa_api.problems import Unavailable
from momalisa_api.store.clips import ClipStore
from momalisa_api.store.erasures import Erasures
from momalisa_api.store.pictures import PictureStore
from momalisa_api.web.links import Scopes

# A caller waits for files for so long.
DELETION_S: Final = 5.0


class Deletion:
    """What an owner deletes. Walks that others requested stay for them."""

    def __init__(self, erasures: Erasures, pictures: PictureStore, clips: ClipStore, scopes: Scopes) -> None:
        self._erasures = erasures
        self._scopes = scopes
        self._sweeps = (erasures.sweep, pictures.delete_expired, clips.delete_expired)

    async def of_walk(self, walk_id: str, owner: str) -> bool:
        """Withdraw an owner's request, and delete the walk if it has no other. Returns False for a walk of others.

        Raises CatalogueUnavailable.
        """
        deleted = await self._erasures.erase_request(walk_id, owner)
        if deleted:
            with suppress(Unavailable), anyio.move_on_after(DELETION_S):
                await self._erasures.sweep(walk_id)
        return deleted

    async def of_owner(self, owner: str) -> None:
        """Delete all walks, pictures and clips of an owner. Raises CatalogueUnavailable."""
        await self._erasures.erase_owner(owner, self._scopes.of(owner))
        with suppress(Unavailable), anyio.move_on_after(DELETION_S):
            for sweep in self._sweeps:
                while await sweep():
                    pass
