"""The caller: who the server takes it for, and everything of this owner, to take along or to delete."""

import hashlib
from functools import partial
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from momalisa_api.films.archive import Archive
from momalisa_api.problems import CatalogueUnavailable, NoIdentity, TokenRefused, UnknownKey
from momalisa_api.store.belongings import Count
from momalisa_api.store.bucket import StoredObject
from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.web.owner_archive import entries_of, reader_of
from momalisa_api.web.problem_json import documented
from momalisa_api.web.routes.auth import COOKIE, WITHOUT_CREDENTIALS, Caller, SignedInUser
from momalisa_api.web.routes.conditions import ConditionsDep
from momalisa_api.web.routes.deps import (
    BelongingsDep,
    BucketDep,
    ChecksumsDep,
    ClipStoreDep,
    DeletionDep,
    PictureStoreDep,
    SettingsDep,
)
from momalisa_api.web.routes.media import bytes_of, streamed

CALLING = (UnknownKey, TokenRefused, CatalogueUnavailable)

router = APIRouter(tags=["owners"])


class MeResource(BaseModel):
    """You, as this server knows you."""

    kind: Literal["anonymous", "cookie", "key", "user"] = Field(description="What identifies you.")
    name: str | None = Field(description="Your name at the identity provider, or that of the API key.")
    email: str | None = Field(description="Your e-mail address, if the identity provider has verified it.")
    sign_in: Literal["off", "optional", "required"] = Field(
        description="Whether you can or must sign in to start walks and to upload."
    )
    walks: int = Field(description="How many walks you have requested, and not withdrawn or deleted.")
    pictures: int = Field(description="How many pictures you have here.")
    clips: int = Field(description="How many clips you have here.")
    mail: bool = Field(description="Whether this deployment sends mail when a walk is done.")


@router.get(
    "/me",
    summary="Get who you are",
    openapi_extra=WITHOUT_CREDENTIALS,
    responses=documented(*CALLING),
)
async def get_me(
    caller: Caller, user: SignedInUser, settings: SettingsDep, belongings: BelongingsDep, response: Response
) -> MeResource:
    """Get what identifies you, and whether you can sign in."""
    response.headers["Cache-Control"] = "private, no-store"
    kind, _, name = caller.partition(":")
    shown = user.name if user else name if kind == "key" else None
    known = "anonymous" if caller == ANONYMOUS else kind
    has = Count(0, 0, 0) if caller == ANONYMOUS else await belongings.count(caller)
    return MeResource.model_validate(
        {
            "kind": known,
            "name": shown,
            "email": user.email if user else None,
            "sign_in": settings.sign_in,
            "walks": has.walks,
            "pictures": has.pictures,
            "clips": has.clips,
            "mail": settings.sends_mail,
        }
    )


@router.get(
    "/me/archive.zip",
    summary="Get everything of yours",
    response_class=Response,
    responses=bytes_of("application/zip", problems=(NoIdentity, *CALLING)),
)
async def get_archive(
    caller: Caller,
    belongings: BelongingsDep,
    pictures: PictureStoreDep,
    clips: ClipStoreDep,
    bucket: BucketDep,
    checksums: ChecksumsDep,
    conditions: ConditionsDep,
) -> Response:
    """Get your films, requests (as JSON), pictures and clips in one ZIP archive, with a page that lists them."""
    entries = await entries_of(_owner_of(caller), belongings, pictures, clips, bucket)
    # One at a time: films can have hundreds of megabytes.
    archive = Archive([(entry.name, entry.size) for entry in entries], ahead=1)
    version = hashlib.sha256(" ".join(f"{entry.name} {entry.version}" for entry in entries).encode()).hexdigest()
    described = StoredObject(f"me/{caller}", archive.size, version, None)
    part = partial(archive.part, read=reader_of(entries, bucket), checksums=checksums.of(version))
    answer = await streamed(described, part, "application/zip", "momalisa.zip", conditions, "private, no-cache")
    answer.headers["Vary"] = "Cookie, Authorization"
    return answer


@router.delete(
    "/me",
    summary="Delete everything of yours",
    status_code=204,
    responses=documented(NoIdentity, *CALLING),
)
async def delete_me(caller: Caller, deletion: DeletionDep, response: Response) -> None:
    """Delete your walks with their frames and films, your pictures and your clips.

    What others requested, too, stays for them. Nobody can read the rest from now on. If there is much of it, files are
    deleted within some minutes.
    """
    await deletion.of_owner(_owner_of(caller))
    response.delete_cookie(COOKIE, path="/api")


def _owner_of(caller: str) -> str:
    """The caller, if nobody else is the same owner. Raises NoIdentity."""
    if caller == ANONYMOUS:
        raise NoIdentity("Nothing is yours alone without a cookie or an API key. Send the one that you used before.")
    return caller
