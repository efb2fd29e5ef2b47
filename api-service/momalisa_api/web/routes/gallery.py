"""The gallery's list of walks, and the model that renders them."""

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from momalisa_api.problems import CatalogueUnavailable, Invalid, UnknownKey
from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.spec import Effort
from momalisa_api.web.problem_json import documented
from momalisa_api.web.request import Prompt
from momalisa_api.web.routes.auth import WITHOUT_CREDENTIALS, Caller
from momalisa_api.web.routes.deps import CardDep, GalleryDep, SettingsDep, WorkersDep
from momalisa_api.web.routes.schemas import GalleryPage, ReplicasResource, WalkViewsDep

router = APIRouter(tags=["gallery"])


class ModelResource(BaseModel):
    """The model of this deployment and its replicas."""

    card: ModelCard = Field(description="The model card.")
    effort: Effort = Field(description="The effort for even walks whose request does not say it.")
    replicas: ReplicasResource = Field(description="The replicas that render with the model.")


@router.get(
    "/walks",
    summary="List walks",
    openapi_extra=WITHOUT_CREDENTIALS,
    responses=documented(UnknownKey, Invalid, CatalogueUnavailable),
)
async def list_walks(
    gallery: GalleryDep,
    views: WalkViewsDep,
    caller: Caller,
    q: Annotated[Prompt, Query(max_length=200, description="Words that the stops must contain, in any order.")] = "",
    before: Annotated[
        int | None, Query(ge=1, lt=2**63, description="Cursor from the `next` URL of the previous page.")
    ] = None,
    owner: Annotated[Literal["me"] | None, Query(description="me: only your own walks, listed or not.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Number of walks per page.")] = 24,
) -> GalleryPage:
    """List the walks of the gallery, newest first, in pages."""
    # Anonymous callers share one owner, so hidden walks stay hidden from them.
    named = caller != ANONYMOUS
    page = await gallery.page(q, before, limit, caller if owner else None, hidden=bool(owner) and named)
    further = {"q": q, "before": page.next_cursor, "limit": limit} | ({"owner": owner} if owner else {})
    return GalleryPage(
        walks=await views.show_all(page.walks),
        next=f"/api/v1/walks?{urlencode(further)}" if page.next_cursor else None,
    )


@router.get("/model", summary="Get the model")
async def get_model(card: CardDep, settings: SettingsDep, workers: WorkersDep) -> ModelResource:
    """Get the model card: what the model is, what it paints well, and its limits."""
    try:
        awake = (await workers.fleet_status()).awake
    except CatalogueUnavailable:
        awake = None
    return ModelResource(card=card, effort=settings.effort, replicas=ReplicasResource(awake=awake))
