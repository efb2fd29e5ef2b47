"""Clips of visitors: upload one, or have it fetched, look at it, and delete it. Only their owner can."""

from datetime import datetime
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from momalisa_api.problems import (
    BadClip,
    BucketUnavailable,
    CatalogueUnavailable,
    ClipNotFound,
    Invalid,
    RangeUnsatisfiable,
    UnknownKey,
)
from momalisa_api.store.clips import NO_CLIP, StoredClip
from momalisa_api.web.problem_json import documented
from momalisa_api.web.routes.auth import WITHOUT_CREDENTIALS, Caller, Network, Owner
from momalisa_api.web.routes.conditions import ConditionsDep
from momalisa_api.web.routes.deps import BucketDep, ClipIntakeDep, ClipStoreDep
from momalisa_api.web.routes.uploads import BYTES, body_with, owners_file, responses_to_upload, take

CLIPS_PATH: Final = "/api/v1/clips"
_FILES: Final = {"video/mp4": BYTES, "video/webm": BYTES}

router = APIRouter(tags=["uploads"])


class ClipResource(BaseModel):
    """A clip of yours: its video and sound as they were, without metadata."""

    id: str = Field(description="The SHA-256 of the file.")
    url: str = Field(description="Path of the file, an MP4 or a WebM. Only you can read it.")
    seconds: float = Field(description="Duration of the video, at most 30.")
    width: int = Field(description="In pixels, as players show it.")
    height: int = Field(description="In pixels, as players show it.")
    frames: int = Field(description="Number of pictures.")
    has_sound: bool = Field(description="Whether it has sound, too.")
    created_at: datetime = Field(description="Time of the first upload.")
    expires_at: datetime = Field(description="When it is deleted, unless a walk uses it.")


ClipId = Annotated[str, Path(description="The clip's id.", pattern="^[0-9a-f]{64}$")]


@router.post(
    "/clips",
    summary="Upload a clip",
    status_code=201,
    openapi_extra=WITHOUT_CREDENTIALS | body_with("clip"),
    responses=responses_to_upload("clip", BadClip),
)
async def create_clip(
    request: Request, intake: ClipIntakeDep, owner: Owner, network: Network, response: Response
) -> ClipResource:
    """Upload an MP4, MOV or WebM, or have it fetched: at most 100 MB, 30 seconds, and 4096 pixels a side.

    The first video and the first sound are kept as they are; everything else of the file is removed. It is deleted
    after a day, unless a walk uses it.
    """
    found = await take(request, intake, owner, network)
    response.headers["Location"] = f"{CLIPS_PATH}/{found.id}"
    response.headers["Cache-Control"] = "no-store"
    return _shown(found)


@router.get(
    "/clips/{clip_id}.{ending}",
    summary="Get a clip",
    response_class=Response,
    responses={
        200: {"description": "The whole file", "content": _FILES},
        206: {"description": "The requested range", "content": _FILES},
        304: {"description": "Not modified"},
        **documented(UnknownKey, ClipNotFound, RangeUnsatisfiable, Invalid, BucketUnavailable, CatalogueUnavailable),
    },
)
async def get_clip_file(
    clip_id: ClipId,
    ending: Annotated[Literal["mp4", "webm"], Path(description="The file's ending: the clip names its URL.")],
    clips: ClipStoreDep,
    bucket: BucketDep,
    caller: Caller,
    conditions: ConditionsDep,
) -> Response:
    """Get one of your clips."""
    found = await clips.get(caller, clip_id)
    if found.ending != ending:
        raise ClipNotFound(f"This clip is a .{found.ending} file. Use the URL in its description.")
    name = f"{clip_id[:12]}.{ending}"
    return await owners_file(bucket, found.key, f"video/{ending}", name, conditions, ClipNotFound(NO_CLIP))


@router.get(
    "/clips/{clip_id}",
    summary="Describe a clip",
    responses=documented(UnknownKey, ClipNotFound, Invalid, CatalogueUnavailable),
)
async def get_clip(clip_id: ClipId, clips: ClipStoreDep, caller: Caller, response: Response) -> ClipResource:
    """Get what one of your clips is, and when it is deleted."""
    response.headers["Cache-Control"] = "no-store"
    return _shown(await clips.get(caller, clip_id))


@router.delete(
    "/clips/{clip_id}",
    summary="Delete a clip",
    status_code=204,
    responses=documented(UnknownKey, ClipNotFound, Invalid, BucketUnavailable, CatalogueUnavailable),
)
async def delete_clip(clip_id: ClipId, clips: ClipStoreDep, caller: Caller) -> None:
    """Delete one of your clips. The file is removed at once."""
    await clips.delete(caller, clip_id)


def _shown(clip: StoredClip) -> ClipResource:
    facts = {name: getattr(clip, name) for name in ClipResource.model_fields if name != "url"}
    return ClipResource(url=f"{CLIPS_PATH}/{clip.id}.{clip.ending}", **facts)
