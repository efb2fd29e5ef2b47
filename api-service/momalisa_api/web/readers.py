"""Who may read a private walk: owners who requested it, holders of a signed link, and everyone while it is listed."""

from momalisa_api.problems import Gone, LinkExpired, WalkNotFound
from momalisa_api.store.gallery import Gallery
from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.store.walk_rows import NOT_FOUND
from momalisa_api.walks.spec import is_private
from momalisa_api.walks.walk import Walk
from momalisa_api.web.links import Links


class Readers:
    """Opens walks for callers. For all others, a private walk does not exist."""

    def __init__(self, gallery: Gallery, links: Links) -> None:
        self._gallery = gallery
        self._links = links

    async def check(self, walk: Walk, owner: str, link: str | None) -> str | None:
        """Check that a caller may read a walk. Returns the token of the link that opened it, if one did.

        Raises WalkNotFound like for an unknown id, LinkExpired, CatalogueUnavailable.
        """
        return await self.check_id(walk.id, owner, link) if is_private(walk.spec) else None

    async def check_id(self, walk_id: str, owner: str, link: str | None) -> str | None:
        """The same for a walk whose spec may be unreadable."""
        access = await self._gallery.access(walk_id, None if owner == ANONYMOUS else owner)
        if not access:
            raise WalkNotFound(NOT_FOUND)
        if not access.private or access.requested or access.listed:
            return None
        if self._links.opens(link, walk_id, access.number):
            return link
        raise WalkNotFound(NOT_FOUND)

    async def still(self, walk: Walk, owner: str, link: str | None) -> bool:
        """Whether a caller may still read a walk."""
        try:
            await self.check(walk, owner, link)
        except (WalkNotFound, LinkExpired, Gone):
            return False
        return True
