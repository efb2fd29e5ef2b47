"""The walk that a request names, for those who may read it. Every route with {walk_id} gets its walk from here."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Query, Request

from momalisa_api.problems import CatalogueUnavailable, Gone, Invalid, LinkExpired, UnknownKey, WalkNotFound
from momalisa_api.walks.spec import is_private
from momalisa_api.walks.walk import Walk
from momalisa_api.web.middleware import PRIVATE
from momalisa_api.web.recent_walks import Pictures
from momalisa_api.web.routes.auth import Caller
from momalisa_api.web.routes.deps import CatalogueDep, ReadersDep, RecentWalksDep

WalkId = Annotated[str, Path(description="The walk's id: a hash of its spec.", pattern="^[0-9a-f]{32}$")]
# What every route with a walk can raise, for its documentation.
READING = (UnknownKey, WalkNotFound, LinkExpired, Gone, Invalid, CatalogueUnavailable)
LinkToken = Annotated[
    str | None,
    Query(alias="link", max_length=200, description="The token of a signed link, which opens one private walk."),
]


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads a walk. link: the token of a link, whether it opens the walk or not."""

    owner: str
    link: str | None


async def _reader(caller: Caller, link: LinkToken = None) -> Reader:
    return Reader(caller, link)


ReaderDep = Annotated[Reader, Depends(_reader)]


@dataclass(frozen=True, slots=True)
class Opened:
    """A walk that the caller may read. link: the token that opened it, for the URLs in the answer."""

    walk: Walk
    link: str | None


async def _opened(
    walk_id: WalkId, reader: ReaderDep, catalogue: CatalogueDep, readers: ReadersDep, request: Request
) -> Opened:
    try:
        walk = await catalogue.get(walk_id)
    except Gone:
        await readers.check_id(walk_id, reader.owner, reader.link)
        raise
    link = await readers.check(walk, reader.owner, reader.link)
    request.scope[PRIVATE] = is_private(walk.spec)
    return Opened(walk, link)


OpenedWalk = Annotated[Opened, Depends(_opened)]


async def _walk(opened: OpenedWalk) -> Walk:
    return opened.walk


KnownWalk = Annotated[Walk, Depends(_walk)]


async def _pictures(
    walk_id: WalkId, reader: ReaderDep, recent: RecentWalksDep, readers: ReadersDep, request: Request
) -> Pictures:
    try:
        pictures = await recent.get(walk_id)
    except Gone:
        await readers.check_id(walk_id, reader.owner, reader.link)
        raise
    await readers.check(pictures.walk, reader.owner, reader.link)
    request.scope[PRIVATE] = is_private(pictures.walk.spec)
    return pictures


# For routes that many requests of one page call: some seconds old, so what it lacks may exist by now. Whether the
# caller may read the walk is never old.
RecentPictures = Annotated[Pictures, Depends(_pictures)]
