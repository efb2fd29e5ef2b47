"""The gallery's list of walks, and what the model behind them is."""

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from pydantic import BaseModel

from momalisa_api.problems import CatalogueUnavailable, Invalid, KeyUnknown
from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.web.problem_json import documented
from momalisa_api.web.request import Prompt
from momalisa_api.web.routes.auth import Caller
from momalisa_api.web.routes.deps import CardDep, GalleryDep, WorkersDep
from momalisa_api.web.routes.schemas import GalleryPage, ReplicasResource, WalkViewsDep

router = APIRouter(tags=["gallery"])


class ModelResource(BaseModel):
    """What this deployment renders with, and how many replicas are awake to do it."""

    card: ModelCard
    replicas: ReplicasResource


@router.get(
    "/walks",
    summary="The gallery: walks, newest first",
    responses=documented(KeyUnknown, Invalid, CatalogueUnavailable),
)
async def list_walks(
    gallery: GalleryDep,
    views: WalkViewsDep,
    caller: Caller,
    q: Annotated[Prompt, Query(max_length=200, description="Words that a stop must hold.")] = "",
    before: Annotated[int | None, Query(ge=1, lt=2**63, description="The cursor of the last page's `next`.")] = None,
    owner: Annotated[Literal["me"] | None, Query(description="Only your own, listed or not.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Walks a page.")] = 24,
) -> GalleryPage:
    """Walks, newest first, a page at a time."""
    # All who bring no name are one owner together: to them, what is off the wall is off this list as well.
    named = caller != ANONYMOUS
    page = await gallery.page(q, before, limit, caller if owner else None, hidden=bool(owner) and named)
    further = {"q": q, "before": page.next_cursor, "limit": limit} | ({"owner": owner} if owner else {})
    return GalleryPage(
        walks=await views.show_all(page.walks),
        next=f"/api/v1/walks?{urlencode(further)}" if page.next_cursor else None,
    )


@router.get("/model", summary="What this deployment renders with")
async def model(card: CardDep, workers: WorkersDep) -> ModelResource:
    """The model card: what it is, what it paints well, its limits."""
    try:
        awake = (await workers.fleet_status()).awake
    except CatalogueUnavailable:
        awake = None
    return ModelResource(card=card, replicas=ReplicasResource(awake=awake))
