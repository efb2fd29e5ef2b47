"""The bytes of frames and films: streamed from the bucket, with ranges, good for ever."""

import re
import unicodedata
import zipfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Header, Response
from fastapi import Path as PathParameter
from fastapi.responses import StreamingResponse
from starlette.types import Send

from momalisa_api.films.kinds import FILM_KINDS, FilmName
from momalisa_api.problems import (
    BucketUnavailable,
    CatalogueUnavailable,
    Gone,
    Invalid,
    NotAcceptable,
    NotThereYet,
    RangeUnsatisfiable,
    WalkUnknown,
)
from momalisa_api.store.bucket import Bucket, NotInBucket, copied_aside
from momalisa_api.walks.rounds import seeds_of
from momalisa_api.walks.spec import Frame
from momalisa_api.walks.walk import State, Walk
from momalisa_api.web.problem_json import documented
from momalisa_api.web.routes.deps import BucketDep, KnownWalk, ZipLimiterDep

NO_VIDEO = 'MP4 is not made here: this installation lacks PyAV (pip install "momalisa-api[video]"). Ask for the GIF.'
ETAG = {"ETag": {"description": "Names these bytes.", "schema": {"type": "string"}}}
CONTENT_RANGE = {"Content-Range": {"description": "Which bytes of how many.", "schema": {"type": "string"}}}
FOR_EVER = "public, max-age=31536000, immutable"

GONE = "The file is gone from the bucket. POST the walk to /api/v1/walks again to have it made anew."
router = APIRouter(tags=["pictures"])

RangeHeader = Annotated[str | None, Header(alias="Range", description="One range of bytes, such as bytes=0-1023.")]
NoneMatch = Annotated[
    str | None, Header(alias="If-None-Match", description="The ETag you have: 304 where it is still right.")
]
FilmPath = Annotated[
    FilmName,
    PathParameter(description=" ".join(f"{kind.name}: {kind.description}" for kind in FILM_KINDS.values())),
]


def _bytes_of(*media_types: str) -> dict[int | str, dict[str, Any]]:
    content = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in media_types}
    return {
        200: {"description": "The whole file", "content": content, "headers": ETAG},
        206: {"description": "The range asked for", "content": content, "headers": ETAG | CONTENT_RANGE},
        304: {"description": "You have it already"},
        **documented(
            WalkUnknown, NotThereYet, Gone, RangeUnsatisfiable, Invalid, BucketUnavailable, CatalogueUnavailable
        ),
    }


@router.get(
    "/walks/{walk_id}/frames/{index}.png",
    summary="One frame",
    response_class=Response,
    responses=_bytes_of("image/png"),
)
async def frame(
    walk: KnownWalk,
    index: Annotated[int, PathParameter(ge=0, description="The frame, counted from 0.")],
    bucket: BucketDep,
    byte_range: RangeHeader = None,
    none_match: NoneMatch = None,
) -> Response:
    """One frame of a walk, as soon as it has landed."""
    if index >= walk.spec.frames:
        raise WalkUnknown(f"The walk has frames 0 to {walk.spec.frames - 1}.")
    if index not in walk.landed_frames:
        raise NotThereYet(f"Frame {index} has not landed. Watch the walk's events, then ask again.")
    key = walk.frames[index].key
    name = file_name(walk, f"{index:03}.png")
    return await stored(bucket, key, "image/png", name, byte_range, none_match)


@router.get(
    "/walks/{walk_id}/probes/{seed}/{leg}/{fraction}.png",
    summary="A picture on the way to an even walk",
    response_class=Response,
    responses=_bytes_of("image/png"),
)
async def probe(
    walk: KnownWalk,
    seed: Annotated[int, PathParameter(description="The noise that it starts from.")],
    leg: Annotated[int, PathParameter(description="The leg it stands on, counted from 0.")],
    fraction: Annotated[float, PathParameter(description="Where on that leg, 0 to 1.")],
    bucket: BucketDep,
    byte_range: RangeHeader = None,
    none_match: NoneMatch = None,
) -> Response:
    """A picture that was rendered to find where the frames of a walk stand; the walk names those there are."""
    if seed not in seeds_of(walk.spec) or not 0 <= leg < len(walk.spec.legs):
        raise WalkUnknown(f"The walk looks at no seed {seed} on leg {leg}: take the urls that it names.")
    key = Frame(walk.spec.recipes(seed)[leg], fraction).key
    name = file_name(walk, f"{leg}-{fraction!r}.png")
    try:
        return await stored(bucket, key, "image/png", name, byte_range, none_match)
    except Gone:
        raise NotThereYet("No picture of this place has landed. Take the urls that the walk names.") from None


@router.get(
    "/walks/{walk_id}/frames.zip", summary="All frames", response_class=Response, responses=_bytes_of("application/zip")
)
async def frames_zip(
    walk: KnownWalk,
    bucket: BucketDep,
    limiter: ZipLimiterDep,
    byte_range: RangeHeader = None,
    none_match: NoneMatch = None,
) -> Response:
    """All frames of a finished walk, numbered, in one archive."""
    _only_when_done(walk)
    key = f"walks/{walk.id}/frames.zip"
    async with limiter.lock:
        if key not in await bucket.present(f"walks/{walk.id}/"):
            try:
                await _pack(walk, bucket, key)
            except NotInBucket:
                raise Gone(GONE) from None
    name = file_name(walk, "zip")
    return await stored(bucket, key, "application/zip", name, byte_range, none_match)


@router.get(
    "/walks/{walk_id}/{name}",
    summary="A film",
    response_class=Response,
    responses=_bytes_of(*dict.fromkeys(kind.media_type for kind in FILM_KINDS.values())) | documented(NotAcceptable),
)
async def film(
    walk: KnownWalk, name: FilmPath, bucket: BucketDep, byte_range: RangeHeader = None, none_match: NoneMatch = None
) -> Response:
    """A film of a finished walk."""
    return await film_of(walk, name, bucket, byte_range, none_match)


async def film_of(
    walk: Walk, name: FilmName, bucket: Bucket, byte_range: str | None = None, none_match: str | None = None
) -> Response:
    """The answer that carries a film; one that was made stays, also while lost frames of its walk are rendered again.

    Raises NotThereYet before the walk is done, NotAcceptable for a film not made.
    """
    if name not in walk.films:
        _only_when_done(walk)
        raise NotAcceptable(NO_VIDEO)
    download = file_name(walk, name.rpartition(".")[2])
    key = f"walks/{walk.id}/{name}"
    return await stored(bucket, key, FILM_KINDS[name].media_type, download, byte_range, none_match)


async def stored(
    bucket: Bucket, key: str, media_type: str, name: str, byte_range: str | None, none_match: str | None
) -> Response:
    """An answer that streams an object, or a range of it. Source: RFC 9110, section 14."""
    etag = '"' + key.replace("/", "-") + '"'
    headers = {"Cache-Control": FOR_EVER, "ETag": etag, "Accept-Ranges": "bytes"}
    if none_match and (none_match.strip() == "*" or etag in none_match):
        return Response(status_code=304, headers=headers)
    try:
        size = await bucket.size(key)
        wanted = parse_range(byte_range, size)
        first, last = wanted or (0, size - 1)
        content = await _begun(bucket.stream(key, first, last))
    except NotInBucket:
        raise Gone(GONE) from None
    headers |= {"Content-Length": str(last - first + 1), "Content-Disposition": f'inline; filename="{name}"'}
    status = 200
    if wanted:
        status = 206
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return _Streamed(content, status, headers, media_type)


async def _begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks, the first of them fetched: an answer that has begun cannot say any more what is wrong."""
    first = await anext(chunks, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return whole()


class _Streamed(StreamingResponse):
    """An answer that breaks off where the bucket does. The server then closes the connection: bytes lack."""

    async def stream_response(self, send: Send) -> None:
        with suppress(BucketUnavailable, NotInBucket):
            await super().stream_response(send)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of a Range header; None where it asks for the whole file, or in a way we need not follow.

    Raises RangeUnsatisfiable where it lies outside `size`. Source: RFC 9110, section 14.1.2.
    """
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", (header or "").strip())
    if not found or not any(found.groups()):
        return None
    start, end = found.groups()
    first = int(start) if start else max(0, size - int(end))
    last = min(int(end), size - 1) if start and end else size - 1
    if start and end and int(end) < first:
        return None
    if first >= size or (not start and int(end) == 0):
        raise RangeUnsatisfiable(size)
    return first, last


def file_name(walk: Walk, ending: str) -> str:
    """A name for a download: momalisa_a-giraffe-to-a-battleship_7_25f.gif, ASCII, at most 80 characters."""
    tail = f"_{walk.seed}_{walk.spec.frames}f.{ending}"
    room = (80 - len("momalisa_-to-") - len(tail)) // 2
    start, end = (_slug(stop)[:room].strip("-") or "x" for stop in (walk.spec.stops[0], walk.spec.stops[-1]))
    return f"momalisa_{start}-to-{end}{tail}"


def _slug(prompt: str) -> str:
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _only_when_done(walk: Walk) -> None:
    if walk.state is not State.DONE:
        detail = f"The walk is {walk.state}, {len(walk.landed_frames)} of {walk.spec.frames} frames have landed."
        raise NotThereYet(f"{detail} Ask again when it is done.")


async def _pack(walk: Walk, bucket: Bucket, key: str) -> None:
    """Put a walk's frames into one archive in the bucket, one frame in memory at a time."""

    def pack(copies: list[Path], target: Path) -> None:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for copy in copies:
                # A fixed date: the same walk gives the same archive.
                archive.writestr(zipfile.ZipInfo(copy.name, date_time=(1980, 1, 1, 0, 0, 0)), copy.read_bytes())

    async with copied_aside(bucket, [frame.key for frame in walk.frames]) as copies:
        target = copies[0].with_name("frames.zip")
        await anyio.to_thread.run_sync(pack, copies, target)
        await bucket.put_file(key, target)
