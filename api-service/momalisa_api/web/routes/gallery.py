"""The gallery's list of walks."""

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response

from momalisa_api.problems import Busy, CatalogueUnavailable, Invalid, UnknownKey
from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.web.fields import MAX_MODEL_CHARS, Prompt
from momalisa_api.web.middleware import READERS_VARY
from momalisa_api.web.problem_json import documented
from momalisa_api.web.routes.auth import WITHOUT_CREDENTIALS, Caller
from momalisa_api.web.routes.deps import GalleryDep
from momalisa_api.web.routes.schemas import GalleryPage, WalkViewsDep

router = APIRouter(tags=["gallery"])


@router.get(
    "/walks",
    summary="List walks",
    openapi_extra=WITHOUT_CREDENTIALS,
    responses=documented(Busy, UnknownKey, Invalid, CatalogueUnavailable),
)
async def list_walks(
    gallery: GalleryDep,
    views: WalkViewsDep,
    caller: Caller,
    response: Response,
    q: Annotated[Prompt, Query(max_length=200, description="Words that the stops must contain, in any order.")] = "",
    before: Annotated[
        int | None, Query(ge=1, lt=2**63, description="Cursor from the `next` URL of the previous page.")
    ] = None,
    owner: Annotated[Literal["me"] | None, Query(description="me: only your own walks, listed or not.")] = None,
    model: Annotated[
        Prompt | None, Query(max_length=MAX_MODEL_CHARS, description="Name of a model: only its walks.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Number of walks per page.")] = 24,
) -> GalleryPage:
    """List the walks of the gallery, newest first, in pages."""
    if owner:
        response.headers.update({"Cache-Control": "private, no-store", "Vary": READERS_VARY})
    if owner and caller == ANONYMOUS:
        # Anonymous callers share one owner: the walks of all of them are nobody's, and some are unlisted.
        return GalleryPage(walks=[], next=None)
    page = await gallery.page(q, before, limit, caller if owner else None, model=model, hidden=bool(owner))
    further = {"q": q, "before": page.next_cursor, "limit": limit}
    further |= {name: value for name, value in (("owner", owner), ("model", model)) if value is not None}
    return GalleryPage(
        walks=await views.show_all(page.walks),
        next=f"/api/v1/walks?{urlencode(further)}" if page.next_cursor else None,
    )
