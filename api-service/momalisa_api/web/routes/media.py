"""Frames, films and archives: streamed from the bucket, with ranges and long-lived caching."""

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
    NotReadyYet,
    RangeUnsatisfiable,
    WalkNotFound,
)
from momalisa_api.store.bucket import Bucket, NotInBucket, copied_aside
from momalisa_api.walks.rounds import seeds_of
from momalisa_api.walks.spec import Frame
from momalisa_api.walks.walk import State, Walk
from momalisa_api.web.problem_json import documented
from momalisa_api.web.routes.deps import BucketDep, KnownWalk, ZipLimiterDep

NO_VIDEO = 'This deployment cannot make MP4, as PyAV is missing (pip install "momalisa-api[video]"). Request the GIF.'
ETAG = {"ETag": {"description": "Identifies this content.", "schema": {"type": "string"}}}
CONTENT_RANGE = {
    "Content-Range": {"description": "The range of bytes and the total size.", "schema": {"type": "string"}}
}
FOR_EVER = "public, max-age=31536000, immutable"

GONE = "The file is no longer in the bucket. Send POST /api/v1/walks again to recreate it."
router = APIRouter(tags=["pictures"])

RangeHeader = Annotated[str | None, Header(alias="Range", description="One range of bytes, such as bytes=0-1023.")]
NoneMatch = Annotated[
    str | None, Header(alias="If-None-Match", description="An ETag; the answer is 304 if it is current.")
]
FilmPath = Annotated[
    FilmName,
    PathParameter(description=" ".join(f"{kind.name}: {kind.description}" for kind in FILM_KINDS.values())),
]


def _bytes_of(*media_types: str) -> dict[int | str, dict[str, Any]]:
    content = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in media_types}
    return {
        200: {"description": "The whole file", "content": content, "headers": ETAG},
        206: {"description": "The requested range", "content": content, "headers": ETAG | CONTENT_RANGE},
        304: {"description": "Not modified"},
        **documented(
            WalkNotFound, NotReadyYet, Gone, RangeUnsatisfiable, Invalid, BucketUnavailable, CatalogueUnavailable
        ),
    }


@router.get(
    "/walks/{walk_id}/frames/{index}.png",
    summary="Get a frame",
    response_class=Response,
    responses=_bytes_of("image/png"),
)
async def get_frame(
    walk: KnownWalk,
    index: Annotated[int, PathParameter(ge=0, description="Number of the frame, counted from 0.")],
    bucket: BucketDep,
    byte_range: RangeHeader = None,
    none_match: NoneMatch = None,
) -> Response:
    """Get one frame of a walk, as soon as it is stored."""
    if index >= walk.spec.frames:
        raise WalkNotFound(f"The walk has frames 0 to {walk.spec.frames - 1}.")
    if index not in walk.frames_ready:
        raise NotReadyYet(f"Frame {index} is not rendered yet. Watch the walk's events, then retry.")
    key = walk.frames[index].key
    name = file_name(walk, f"{index:03}.png")
    return await stored(bucket, key, "image/png", name, byte_range, none_match)


@router.get(
    "/walks/{walk_id}/probes/{seed}/{leg}/{fraction}.png",
    summary="Get a probe",
    response_class=Response,
    responses=_bytes_of("image/png"),
)
async def get_probe(
    walk: KnownWalk,
    seed: Annotated[int, PathParameter(description="Seed of the noise that the picture starts from.")],
    leg: Annotated[int, PathParameter(description="Number of the leg, counted from 0.")],
    fraction: Annotated[float, PathParameter(description="Position on the leg, 0 to 1.")],
    bucket: BucketDep,
    byte_range: RangeHeader = None,
    none_match: NoneMatch = None,
) -> Response:
    """Get a picture that was rendered to find the spacing. The walk resource lists the URLs."""
    if seed not in seeds_of(walk.spec) or not 0 <= leg < len(walk.spec.legs):
        raise WalkNotFound(f"This walk has no probe of seed {seed} on leg {leg}. Use the URLs in the walk resource.")
    key = Frame(walk.spec.recipes(seed)[leg], fraction).key
    name = file_name(walk, f"{leg}-{fraction!r}.png")
    try:
        return await stored(bucket, key, "image/png", name, byte_range, none_match)
    except Gone:
        raise NotReadyYet("This probe is not rendered yet. Use the URLs in the walk resource.") from None


@router.get(
    "/walks/{walk_id}/frames.zip",
    summary="Get all frames",
    response_class=Response,
    responses=_bytes_of("application/zip"),
)
async def get_frames_zip(
    walk: KnownWalk,
    bucket: BucketDep,
    limiter: ZipLimiterDep,
    byte_range: RangeHeader = None,
    none_match: NoneMatch = None,
) -> Response:
    """Get all frames of a finished walk, numbered, in one ZIP archive."""
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
    summary="Get a film",
    response_class=Response,
    responses=_bytes_of(*dict.fromkeys(kind.media_type for kind in FILM_KINDS.values())) | documented(NotAcceptable),
)
async def get_film_file(
    walk: KnownWalk, name: FilmPath, bucket: BucketDep, byte_range: RangeHeader = None, none_match: NoneMatch = None
) -> Response:
    """Get a film of a finished walk."""
    return await film_of(walk, name, bucket, byte_range, none_match)


async def film_of(
    walk: Walk, name: FilmName, bucket: Bucket, byte_range: str | None = None, none_match: str | None = None
) -> Response:
    """The response with a film. A film stays available while lost frames of its walk are rendered again.

    Raises NotReadyYet before the walk is done, NotAcceptable for a film that this deployment cannot make.
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
    """A response that streams an object of the bucket, or a range of it. Source: RFC 9110, section 14."""
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


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of a Range header; None for the whole file, or for a header that can be ignored.

    Raises RangeUnsatisfiable if the range is outside `size`. Source: RFC 9110, section 14.1.2.
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
    """A file name for a download: momalisa_a-giraffe-to-a-battleship_7_25f.gif, ASCII, at most 80 characters."""
    tail = f"_{walk.seed}_{walk.spec.frames}f.{ending}"
    room = (80 - len("momalisa_-to-") - len(tail)) // 2
    start, end = (_slug(stop)[:room].strip("-") or "x" for stop in (walk.spec.stops[0], walk.spec.stops[-1]))
    return f"momalisa_{start}-to-{end}{tail}"


def _slug(prompt: str) -> str:
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _only_when_done(walk: Walk) -> None:
    if walk.state is not State.DONE:
        detail = f"The walk is {walk.state}: {len(walk.frames_ready)} of {walk.spec.frames} frames are ready."
        raise NotReadyYet(f"{detail} Retry when it is done.")


async def _pack(walk: Walk, bucket: Bucket, key: str) -> None:
    """Store a walk's frames as one archive in the bucket, with one frame in memory at a time."""

    def pack(copies: list[Path], target: Path) -> None:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for copy in copies:
                # With a fixed date the same walk gives the same archive.
                archive.writestr(zipfile.ZipInfo(copy.name, date_time=(1980, 1, 1, 0, 0, 0)), copy.read_bytes())

    async with copied_aside(bucket, [frame.key for frame in walk.frames]) as copies:
        target = copies[0].with_name("frames.zip")
        await anyio.to_thread.run_sync(pack, copies, target)
        await bucket.put_file(key, target)
