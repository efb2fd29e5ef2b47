"""Frames of walks as pictures: which frame a request names, and its file for those who may read the walk."""

from collections.abc import AsyncIterator
from typing import Annotated, ClassVar

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field

from momalisa_api.problems import Gone, NotReadyYet, WalkNotFound
from momalisa_api.store.bucket import Bucket, NotInBucket
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.web.readers import Readers
from momalisa_api.web.routes.access import LinkToken
from momalisa_api.web.routes.auth import Owner
from momalisa_api.web.routes.deps import BucketDep, CatalogueDep, ReadersDep

# What `open` raises, for the documentation of its route.
OF_FRAME = (WalkNotFound, NotReadyYet, Gone)


class FrameAddress(BaseModel):
    """A finished frame of a walk that you may read, also by a link."""

    model_config = ConfigDict(extra="forbid")
    EXAMPLE: ClassVar = {"walk": "66ec43256477540dc236522cabd07085", "frame": 12}

    walk: str = Field(description="The walk's id.", pattern="^[0-9a-f]{32}$", examples=[EXAMPLE["walk"]])
    frame: int = Field(
        description="Number of the frame, counted from 0.", ge=0, le=1_000_000, examples=[12], strict=True
    )


class FrameFiles:
    """Opens frames for one caller."""

    def __init__(self, catalogue: Catalogue, readers: Readers, bucket: Bucket, owner: str, link: str | None) -> None:
        self._catalogue = catalogue
        self._readers = readers
        self._bucket = bucket
        self._owner = owner
        self._link = link

    async def open(self, address: FrameAddress) -> AsyncIterator[bytes]:
        """The PNG file of a frame, in chunks. Raises WalkNotFound, LinkExpired, NotReadyYet, Gone, Unavailable."""
        try:
            walk = await self._catalogue.get(address.walk)
        except Gone:
            await self._readers.check_id(address.walk, self._owner, self._link)
            raise
        await self._readers.check(walk, self._owner, self._link)
        if address.frame >= walk.spec.frames:
            raise WalkNotFound(f"The walk has frames 0 to {walk.spec.frames - 1}.")
        if address.frame not in walk.frames_ready:
            raise NotReadyYet(f"Frame {address.frame} is not rendered yet. Watch the walk's events, then retry.")
        try:
            found = await self._bucket.look(walk.frames[address.frame].key)
        except NotInBucket:
            raise Gone("The frame is no longer stored. Send POST /api/v1/walks again to recreate it.") from None
        return self._bucket.stream(found, 0, found.size - 1)


async def _files(
    catalogue: CatalogueDep, readers: ReadersDep, bucket: BucketDep, owner: Owner, link: LinkToken = None
) -> FrameFiles:
    return FrameFiles(catalogue, readers, bucket, owner, link)


FrameFilesDep = Annotated[FrameFiles, Depends(_files)]
