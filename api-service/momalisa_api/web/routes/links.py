"""Signed links: an owner lets others read one private walk for some time."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from momalisa_api.problems import BodyTooLarge, Invalid, NotOwner
from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.web.problem_json import documented
from momalisa_api.web.routes.access import READING, KnownWalk
from momalisa_api.web.routes.auth import Caller
from momalisa_api.web.routes.deps import GalleryDep, LinksDep
from momalisa_api.web.routes.schemas import with_token

WEEK_H: Final = 168.0
MAX_LINK_H: Final = 24.0 * 366
BAD_JSON: Final[dict[int | str, dict[str, Any]]] = {
    400: {"description": "The body is not valid JSON", "content": documented(Invalid)[422]["content"]}
}

router = APIRouter(tags=["walks"])


class LinkRequest(BaseModel):
    """How long a link opens a walk."""

    model_config = ConfigDict(extra="forbid")

    hours: float = Field(WEEK_H, description="Hours until the link expires.", gt=0, le=MAX_LINK_H, allow_inf_nan=False)


class LinkResource(BaseModel):
    """A link that opens one walk for everybody who has it."""

    url: str = Field(description="The walk's page. The token in it also opens the walk's resource, frames and films.")
    expires_at: datetime = Field(description="When it stops working.")


@router.post(
    "/walks/{walk_id}/links",
    summary="Create a link",
    status_code=201,
    responses=BAD_JSON | documented(*READING, NotOwner, BodyTooLarge),
)
async def create_link(
    options: LinkRequest, walk: KnownWalk, gallery: GalleryDep, links: LinksDep, caller: Caller, request: Request
) -> LinkResource:
    """Create a link that lets others read your private walk until it expires, or until the walk is deleted."""
    if caller == ANONYMOUS or await gallery.is_listed(walk.id, caller) is None:
        raise NotOwner("Only those who requested a walk can create links to it. Send your cookie or an API key.")
    expires_at = datetime.now(UTC) + timedelta(hours=options.hours)
    page = f"{request.base_url}walks/{walk.id}"
    return LinkResource(url=with_token(page, links.token(walk.id, walk.number, expires_at)), expires_at=expires_at)
