"""What a walk has beside its frames: a depth map, cut-outs, masks. Served like frames."""

from typing import Annotated

from fastapi import APIRouter, Response
from fastapi import Path as PathParameter

from momalisa_api.problems import Gone, NotReadyYet, WalkNotFound
from momalisa_api.walks.extras import EXTRA_TYPES, KINDS_WITH_EXTRAS, extra_key, extra_type
from momalisa_api.walks.walk import State, Walk
from momalisa_api.web.routes.access import RecentPictures
from momalisa_api.web.routes.auth import WITHOUT_CREDENTIALS
from momalisa_api.web.routes.conditions import ConditionsDep
from momalisa_api.web.routes.deps import BucketDep, RecentWalksDep
from momalisa_api.web.routes.media import FOR_A_MINUTE, FOR_EVER, OF_WALK, bytes_of, file_name, stored

router = APIRouter(tags=["pictures"])


@router.get(
    "/walks/{walk_id}/extras/{name}",
    summary="Get an extra",
    response_class=Response,
    openapi_extra=WITHOUT_CREDENTIALS,
    responses=bytes_of(*EXTRA_TYPES.values(), problems=OF_WALK),
)
async def get_extra(
    pictures: RecentPictures,
    name: Annotated[str, PathParameter(description="Name of the extra.", pattern=r"^[a-z0-9-]{1,40}\.(png|json)$")],
    recent: RecentWalksDep,
    bucket: BucketDep,
    conditions: ConditionsDep,
) -> Response:
    """Get a file that the walk has beside its frames. The walk resource lists them, before frame 0 is ready."""
    walk = pictures.walk
    if walk.spec.kind not in KINDS_WITH_EXTRAS:
        raise WalkNotFound(f"Walks of the kind {walk.spec.kind} have no extras.")
    if name not in walk.extras:
        walk = (await recent.newest(walk.id)).walk
    if name not in walk.extras:
        raise _missing(walk, name)
    caching = FOR_EVER if walk.state is State.DONE else FOR_A_MINUTE
    key = extra_key(walk.recipes[0], name)
    return await stored(bucket, key, extra_type(name), file_name(walk, name), conditions, caching)


def _missing(walk: Walk, name: str) -> Exception:
    if walk.frames_removed:
        return Gone("The extras of this walk have been deleted, as their time is over. Request the walk again.")
    if walk.extras or walk.ended:
        return WalkNotFound(f"This walk has no extra {name}. Use the URLs in the walk resource.")
    return NotReadyYet("The extras are not ready yet. Watch the walk's events, then retry.")
