"""Pictures of visitors: upload one, or have it fetched, look at it, and delete it. Only their owner can."""

from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from momalisa_api.problems import (
    BadPicture,
    BucketUnavailable,
    CatalogueUnavailable,
    Invalid,
    PictureNotFound,
    RangeUnsatisfiable,
    UnknownKey,
)
from momalisa_api.store.pictures import NO_PICTURE, StoredPicture
from momalisa_api.web.problem_json import documented
from momalisa_api.web.routes.auth import WITHOUT_CREDENTIALS, Caller, Network, Owner
from momalisa_api.web.routes.conditions import ConditionsDep
from momalisa_api.web.routes.deps import BucketDep, PictureIntakeDep, PictureStoreDep
from momalisa_api.web.routes.frame_pictures import OF_FRAME, FrameAddress, FrameFilesDep
from momalisa_api.web.routes.uploads import (
    BYTES,
    UploadAddress,
    address_in,
    body_with,
    is_json,
    owners_file,
    responses_to_upload,
    take,
)

PICTURES_PATH: Final = "/api/v1/pictures"

router = APIRouter(tags=["uploads"])


class PictureResource(BaseModel):
    """A picture of yours: upright, opaque, in sRGB, without metadata."""

    id: str = Field(description="The SHA-256 of the PNG file.")
    url: str = Field(description="Path of the PNG file. Only you can read it.")
    width: int = Field(description="In pixels; the longer side has at most 2048.")
    height: int = Field(description="In pixels.")
    created_at: datetime = Field(description="Time of the first upload.")
    expires_at: datetime = Field(description="When it is deleted, unless a walk uses it.")


PictureId = Annotated[str, Path(description="The picture's id.", pattern="^[0-9a-f]{64}$")]


@router.post(
    "/pictures",
    summary="Upload a picture",
    status_code=201,
    openapi_extra=WITHOUT_CREDENTIALS | body_with("picture", FrameAddress),
    responses=responses_to_upload("picture", BadPicture, *OF_FRAME),
)
async def create_picture(
    request: Request,
    intake: PictureIntakeDep,
    frames: FrameFilesDep,
    owner: Owner,
    network: Network,
    response: Response,
) -> PictureResource:
    """Upload a JPEG, PNG, WebP, AVIF or GIF, or have it fetched: at most 20 MB and 40 megapixels. Or take a frame.

    It is turned upright, put on white where it is transparent, converted to sRGB, and made smaller if its longer side
    has more than 2048 pixels. Of an animation, the first frame is taken. All metadata is removed. It is deleted after
    a day, unless a walk uses it. A frame of a walk counts as an upload, too.
    """
    if is_json(request):
        address = await address_in(request, UploadAddress | FrameAddress)
        if isinstance(address, FrameAddress):
            found = await intake.copy(await frames.open(address), owner, network)
        else:
            found = await intake.fetch(address.url, owner, network)
    else:
        found = await take(request, intake, owner, network)
    response.headers["Location"] = f"{PICTURES_PATH}/{found.id}"
    response.headers["Cache-Control"] = "no-store"
    return _shown(found)


@router.get(
    "/pictures/{picture_id}.png",
    summary="Get a picture",
    response_class=Response,
    responses={
        200: {"description": "The whole file", "content": {"image/png": BYTES}},
        206: {"description": "The requested range", "content": {"image/png": BYTES}},
        304: {"description": "Not modified"},
        **documented(UnknownKey, PictureNotFound, RangeUnsatisfiable, Invalid, BucketUnavailable, CatalogueUnavailable),
    },
)
async def get_picture_file(
    picture_id: PictureId, pictures: PictureStoreDep, bucket: BucketDep, caller: Caller, conditions: ConditionsDep
) -> Response:
    """Get one of your pictures."""
    found = await pictures.get(caller, picture_id)
    name = f"{picture_id[:12]}.png"
    return await owners_file(bucket, found.key, "image/png", name, conditions, PictureNotFound(NO_PICTURE))


@router.get(
    "/pictures/{picture_id}",
    summary="Describe a picture",
    responses=documented(UnknownKey, PictureNotFound, Invalid, CatalogueUnavailable),
)
async def get_picture(
    picture_id: PictureId, pictures: PictureStoreDep, caller: Caller, response: Response
) -> PictureResource:
    """Get the size of one of your pictures, and when it is deleted."""
    response.headers["Cache-Control"] = "no-store"
    return _shown(await pictures.get(caller, picture_id))


@router.delete(
    "/pictures/{picture_id}",
    summary="Delete a picture",
    status_code=204,
    responses=documented(UnknownKey, PictureNotFound, Invalid, BucketUnavailable, CatalogueUnavailable),
)
async def delete_picture(picture_id: PictureId, pictures: PictureStoreDep, caller: Caller) -> None:
    """Delete one of your pictures. The file is removed at once, unless a walk uses it."""
    await pictures.delete(caller, picture_id)


def _shown(picture: StoredPicture) -> PictureResource:
    return PictureResource(
        id=picture.id,
        url=f"{PICTURES_PATH}/{picture.id}.png",
        width=picture.width,
        height=picture.height,
        created_at=picture.created_at,
        expires_at=picture.expires_at,
    )
