"""The caller: who the server takes it for."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from momalisa_api.problems import CatalogueUnavailable, TokenRefused, UnknownKey
from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.web.problem_json import documented
from momalisa_api.web.routes.auth import WITHOUT_CREDENTIALS, Caller, SignedInUser
from momalisa_api.web.routes.deps import SettingsDep

router = APIRouter(tags=["owners"])


class MeResource(BaseModel):
    """You, as this server knows you."""

    kind: Literal["anonymous", "cookie", "key", "user"] = Field(description="What identifies you.")
    name: str | None = Field(description="Your name at the identity provider, or that of the API key.")
    email: str | None = Field(description="Your e-mail address, if the identity provider has verified it.")
    sign_in: Literal["off", "optional", "required"] = Field(
        description="Whether you can or must sign in to start walks and to upload."
    )
    mail: bool = Field(description="Whether this deployment sends mail when a walk is done.")


@router.get(
    "/me",
    summary="Get who you are",
    openapi_extra=WITHOUT_CREDENTIALS,
    responses=documented(UnknownKey, TokenRefused, CatalogueUnavailable),
)
async def get_me(caller: Caller, user: SignedInUser, settings: SettingsDep, response: Response) -> MeResource:
    """Get what identifies you, and whether you can sign in."""
    response.headers["Cache-Control"] = "private, no-store"
    kind, _, name = caller.partition(":")
    shown = user.name if user else name if kind == "key" else None
    known = "anonymous" if caller == ANONYMOUS else kind
    return MeResource.model_validate(
        {
            "kind": known,
            "name": shown,
            "email": user.email if user else None,
            "sign_in": settings.sign_in,
            "mail": settings.sends_mail,
        }
    )
