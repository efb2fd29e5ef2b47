"""Frames, films and archives: streamed from the bucket, with ranges and long-lived caching."""

import hashlib
import re
import unicodedata
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi import Path as PathParameter
from fastapi.responses import StreamingResponse
from starlette.types import Send

from momalisa_api.films.archive import ENTRIES_AHEAD, Archive
from momalisa_api.films.films import can_make_video
from momalisa_api.films.kinds import FILM_KINDS, FilmName
from momalisa_api.films.read_ahead import read_ahead
from momalisa_api.problems import (
    BucketUnavailable,
    Gone,
    Invalid,
    NotAcceptable,
    NotReadyYet,
    Problem,
    RangeUnsatisfiable,
    WalkNotFound,
)
from momalisa_api.store.bucket import Bucket, NotInBucket, StoredObject
from momalisa_api.walks.extras import extra_key
from momalisa_api.walks.spec import Frame
from momalisa_api.walks.walk import State, Walk
from momalisa_api.web.problem_json import documented
from momalisa_api.web.routes.access import READING, KnownWalk, RecentPictures
from momalisa_api.web.routes.auth import WITHOUT_CREDENTIALS
from momalisa_api.web.routes.conditions import Conditions, ConditionsDep, http_date
from momalisa_api.web.routes.deps import BucketDep, ChecksumsDep, RecentWalksDep

NO_VIDEO = 'This deployment cannot make MP4, as PyAV is missing (pip install "momalisa-api[video]"). Request the GIF.'
NO_FILM = "This walk does not have this film, as it would be too large. Request another one; the walk lists them."
ETAG = {
    "ETag": {"description": "Identifies this content.", "schema": {"type": "string"}},
    "Last-Modified": {"description": "When the file was stored.", "schema": {"type": "string"}},
}
CONTENT_RANGE = {
    "Content-Range": {"description": "The range of bytes and the total size.", "schema": {"type": "string"}}
}
OF_WALK = (*READING, NotReadyYet)
FILM_TYPES = tuple(dict.fromkeys(kind.media_type for kind in FILM_KINDS.values()))
FOR_EVER = "public, max-age=31536000, immutable"
FOR_A_MINUTE = "public, max-age=60"

GONE = "The file is no longer in the bucket. Send POST /api/v1/walks again to recreate it."
router = APIRouter(tags=["pictures"])

FilmPath = Annotated[
    FilmName,
    PathParameter(description=" ".join(f"{kind.name}: {kind.description}" for kind in FILM_KINDS.values())),
]


def bytes_of(*media_types: str, problems: Sequence[type[Problem]]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI `responses` of a route that answers with a file. problems: what it can raise beside its own."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in media_types}
    return {
        200: {"description": "The whole file", "content": content, "headers": ETAG},
        206: {"description": "The requested range", "content": content, "headers": ETAG | CONTENT_RANGE},
        304: {"description": "Not modified"},
        **documented(*problems, Gone, RangeUnsatisfiable, Invalid, BucketUnavailable),
    }


@router.get(
    "/walks/{walk_id}/frames/{index}.png",
    summary="Get a frame",
    response_class=Response,
    openapi_extra=WITHOUT_CREDENTIALS,
    responses=bytes_of("image/png", problems=OF_WALK),
)
async def get_frame(
    pictures: RecentPictures,
    index: Annotated[int, PathParameter(ge=0, description="Number of the frame, counted from 0.")],
    recent: RecentWalksDep,
    bucket: BucketDep,
    conditions: ConditionsDep,
) -> Response:
    """Get one frame of a walk, as soon as it is stored."""
    walk = pictures.walk
    if index >= walk.spec.frames:
        raise WalkNotFound(f"The walk has frames 0 to {walk.spec.frames - 1}.")
    if not pictures.frames:
        pictures = await recent.newest(walk.id)
    missing = NotReadyYet(f"Frame {index} is not rendered yet. Watch the walk's events, then retry.")
    if not pictures.frames:
        raise missing
    # An unfinished walk that is started again can have another frame of this number.
    caching = FOR_EVER if walk.state is State.DONE else FOR_A_MINUTE
    name = file_name(walk, f"{index:03}.png")
    try:
        return await stored(bucket, pictures.frames[index], "image/png", name, conditions, caching)
    except Gone:
        newest = (await recent.newest(walk.id)).walk
        if newest.state is State.DONE or index in newest.frames_ready:
            raise
        raise missing from None


@router.get(
    "/walks/{walk_id}/probes/{seed}/{leg}/{fraction}.png",
    summary="Get a probe",
    response_class=Response,
    openapi_extra=WITHOUT_CREDENTIALS,
    responses=bytes_of("image/png", problems=OF_WALK),
)
async def get_probe(
    pictures: RecentPictures,
    seed: Annotated[int, PathParameter(description="Seed of the noise that the picture starts from.")],
    leg: Annotated[int, PathParameter(description="Number of the leg, counted from 0.")],
    fraction: Annotated[float, PathParameter(description="Position on the leg, 0 to 1.")],
    bucket: BucketDep,
    conditions: ConditionsDep,
) -> Response:
    """Get a picture that was rendered to find the spacing. The walk resource lists the URLs."""
    walk = pictures.walk
    if seed not in walk.spec.seeds or not 0 <= leg < len(walk.spec.legs):
        raise WalkNotFound(f"This walk has no probe of seed {seed} on leg {leg}. Use the URLs in the walk resource.")
    key = Frame(walk.spec.recipes(seed)[leg], fraction).key
    name = file_name(walk, f"{leg}-{fraction!r}.png")
    try:
        return await stored(bucket, key, "image/png", name, conditions)
    except Gone:
        raise NotReadyYet("This probe is not rendered yet. Use the URLs in the walk resource.") from None


@router.get(
    "/walks/{walk_id}/frames.zip",
    summary="Get all frames",
    response_class=Response,
    openapi_extra=WITHOUT_CREDENTIALS,
    responses=bytes_of("application/zip", problems=OF_WALK),
)
async def get_frames_zip(
    walk: KnownWalk, bucket: BucketDep, checksums: ChecksumsDep, conditions: ConditionsDep
) -> Response:
    """Get all frames of a finished walk, numbered, and its extras, in one ZIP archive."""
    _only_when_done(walk)
    found: dict[str, StoredObject] = {}
    folders = list({frame.recipe.folder for frame in walk.frames})
    async with aclosing(
        read_ahead(lambda number: bucket.listed(folders[number]), range(len(folders)), ENTRIES_AHEAD)
    ) as listed:
        async for objects in listed:
            found |= objects
    named = {f"{number:03}.png": frame.key for number, frame in enumerate(walk.frames)}
    named |= {name: extra_key(walk.recipes[0], name) for name in walk.extras}
    try:
        frames = [found[key] for key in named.values()]
    except KeyError:
        raise Gone(GONE) from None
    # Packed while it is sent: a walk of 241 large frames has more bytes than the process has memory or disk.
    archive = Archive([(name, file.size) for name, file in zip(named, frames, strict=True)])
    described = StoredObject(
        f"walks/{walk.id}/frames.zip",
        archive.size,
        hashlib.sha256(" ".join(f"{frame.key} {frame.version}" for frame in frames).encode()).hexdigest(),
        max((frame.modified for frame in frames if frame.modified), default=None),
    )

    async def read(number: int) -> bytes:
        frame = frames[number]
        content = b"".join([chunk async for chunk in bucket.stream(frame, 0, frame.size - 1)])
        if len(content) != frame.size:
            raise NotInBucket(frame.key)
        return content

    part = partial(archive.part, read=read, checksums=checksums.of(described.version))
    return await streamed(described, part, "application/zip", file_name(walk, "zip"), conditions)


@router.get(
    "/walks/{walk_id}/{name}",
    summary="Get a film",
    response_class=Response,
    openapi_extra=WITHOUT_CREDENTIALS,
    responses=bytes_of(*FILM_TYPES, problems=(*OF_WALK, NotAcceptable)),
)
async def get_film_file(
    pictures: RecentPictures, name: FilmPath, recent: RecentWalksDep, bucket: BucketDep, conditions: ConditionsDep
) -> Response:
    """Get a film of a finished walk."""
    if name not in pictures.walk.films:
        pictures = await recent.newest(pictures.walk.id)
    return await film_of(pictures.walk, name, bucket, conditions)


async def film_of(walk: Walk, name: FilmName, bucket: Bucket, conditions: Conditions) -> Response:
    """The response with a film. A film stays available while lost frames of its walk are rendered again.

    Raises NotReadyYet before the walk is done, NotAcceptable for a film that this deployment cannot make.
    """
    if name not in walk.films:
        _only_when_done(walk)
        raise NotAcceptable(NO_VIDEO if FILM_KINDS[name].needs_video and not can_make_video() else NO_FILM)
    download = file_name(walk, name.rpartition(".")[2])
    key = f"walks/{walk.id}/{name}"
    return await stored(bucket, key, FILM_KINDS[name].media_type, download, conditions)


async def stored(
    bucket: Bucket, key: str, media_type: str, name: str, conditions: Conditions, caching: str = FOR_EVER
) -> Response:
    """A response that streams an object of the bucket, or a range of it."""
    try:
        found = await bucket.look(key)
    except NotInBucket:
        raise Gone(GONE) from None
    return await streamed(found, partial(bucket.stream, found), media_type, name, conditions, caching)


async def streamed(
    found: StoredObject,
    part: Callable[[int, int], AsyncIterator[bytes]],
    media_type: str,
    name: str,
    conditions: Conditions,
    caching: str = FOR_EVER,
) -> Response:
    """The response to a conditional or range request. part: the bytes between two positions, both included."""
    # A key can get other bytes: those of a walk that was purged, and rendered again on another device.
    etag = f'"{hashlib.sha256(f"{found.key} {found.version}".encode()).hexdigest()[:32]}"'
    headers = {"Cache-Control": caching, "ETag": etag, "Accept-Ranges": "bytes"}
    if found.modified:
        headers["Last-Modified"] = http_date(found.modified)
    if conditions.has_current(etag, found.modified):
        return Response(status_code=304, headers=headers)
    wanted = conditions.wanted(found.size, etag, found.modified)
    first, last = wanted or (0, found.size - 1)
    try:
        content = _nothing() if conditions.headers_only else await _begun(part(first, last))
    except NotInBucket:
        raise Gone(GONE) from None
    headers |= {"Content-Length": str(last - first + 1), "Content-Disposition": f'inline; filename="{name}"'}
    status = 200
    if wanted:
        status = 206
        headers["Content-Range"] = f"bytes {first}-{last}/{found.size}"
    return _Streamed(content, status, headers, media_type)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks with the first one already fetched: after the headers are sent, no error can be reported."""
    first = await anext(chunks, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return whole()


class _Streamed(StreamingResponse):
    """A response that ends early if the bucket fails; the server then closes the connection, as bytes are missing."""

    async def stream_response(self, send: Send) -> None:
        with suppress(BucketUnavailable, NotInBucket):
            await super().stream_response(send)


def file_name(walk: Walk, ending: str) -> str:
    """A file name for a download: momalisa_a-giraffe-to-a-battleship_7_25f.gif, ASCII, at most 80 characters.

    Walks without noise have no seed in it: momalisa_into-a-picture_49f.gif.
    """
    seed = "" if walk.seed is None else f"_{walk.seed}"
    # Between stops the first and the last; other walks have one title.
    ends = walk.spec.titles[:: max(1, len(walk.spec.titles) - 1)]
    tail = f"{seed}_{walk.spec.frames}f.{ending}"
    room = (80 - len("momalisa_-to-") - len(tail)) // len(ends)
    return f"momalisa_{'-to-'.join(_slug(title)[:room].strip('-') or 'x' for title in ends)}{tail}"


def _slug(prompt: str) -> str:
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _only_when_done(walk: Walk) -> None:
    if walk.state is not State.DONE:
        detail = f"The walk is {walk.state}: {len(walk.frames_ready)} of {walk.spec.frames} frames are ready."
        raise NotReadyYet(f"{detail} Retry when it is done.")
