"""Requests for walks: the one GET, the walk resource, its events, and your request for it."""

import re
from typing import Annotated

import anyio
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse

from momalisa_api.films.films import can_make_video
from momalisa_api.films.kinds import FILM_KINDS
from momalisa_api.problems import (
    BodyTooLarge,
    BucketUnavailable,
    Busy,
    CatalogueUnavailable,
    DayFull,
    GetStartsNothing,
    Gone,
    Invalid,
    NotAcceptable,
    NotOwner,
    QueueFull,
    QuotaExceeded,
    RangeUnsatisfiable,
    SignInRequired,
    Starting,
    UnknownKey,
    WalkCancelled,
    WalkFailed,
    WalkNotFound,
    WalkUnfinished,
)
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.walks.spec import WalkSpec, is_private
from momalisa_api.walks.walk import State, Walk
from momalisa_api.web.between_spec import complete
from momalisa_api.web.kind_request import WalkBody
from momalisa_api.web.kind_spec import complete_kind, uploads_of
from momalisa_api.web.live import LiveUpdates
from momalisa_api.web.middleware import PRIVATE
from momalisa_api.web.problem_json import documented
from momalisa_api.web.request import WalkQuery, WalkRequest
from momalisa_api.web.routes.access import READING, KnownWalk, OpenedWalk, ReaderDep
from momalisa_api.web.routes.auth import HOW_TO_SIGN_IN, WITHOUT_CREDENTIALS, Caller, Network, Owner, must_sign_in
from momalisa_api.web.routes.conditions import ConditionsDep
from momalisa_api.web.routes.deps import (
    BlocklistDep,
    BucketDep,
    CatalogueDep,
    ClipStoreDep,
    DeletionDep,
    GalleryDep,
    IntakeDep,
    LiveUpdatesDep,
    ModelsDep,
    PictureStoreDep,
    ReadersDep,
    ScopesDep,
    SettingsDep,
    TurnDep,
)
from momalisa_api.web.routes.events import DOCUMENTED, HEADERS, EventStream, events_of, shared, watched_by
from momalisa_api.web.routes.media import NO_VIDEO, film_of
from momalisa_api.web.routes.negotiation import preferred, waiting_s
from momalisa_api.web.routes.schemas import Listing, RequestResource, WalkResource, WalkViews, WalkViewsDep, walk_url
from momalisa_api.web.routes.starting import REFUSED, Starts
from momalisa_api.web.stop_request import pictures_in

# The films that one GET can answer with, by media type.
DOWNLOADS = {kind.media_type: kind for kind in FILM_KINDS.values() if kind.download}
OFFERED = (*DOWNLOADS, "application/json")
OWNERS_ONLY = "Only owners of the request can do this. Send the cookie that you received with your POST, or an API key."
LOCATION = {"Location": {"description": "URL of the walk.", "schema": {"type": "string"}}}
RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait before the next request.", "schema": {"type": "string"}}}
WALK_AS_JSON = {"application/json": {"schema": {"$ref": f"#/components/schemas/{WalkResource.__name__}"}}}
BINARY = {"schema": {"type": "string", "format": "binary"}}

router = APIRouter(tags=["walks"])


@router.get(
    "/walk",
    summary="Get the film of a walk",
    response_class=Response,
    openapi_extra=WITHOUT_CREDENTIALS,
    responses={
        200: {
            "description": "The walk is done: the GIF, or the format in Accept",
            # The default comes first: generated clients read this.
            "content": {media_type: BINARY for media_type in DOWNLOADS} | WALK_AS_JSON,
        },
        206: {"description": "The requested range", "content": {media_type: BINARY for media_type in DOWNLOADS}},
        304: {"description": "Not modified"},
        202: {
            "description": "To Accept: application/json, while the walk is not finished: request it again after "
            "Retry-After",
            "model": WalkResource,
            "headers": LOCATION | RETRY_AFTER,
        },
        **documented(
            UnknownKey,
            SignInRequired,
            GetStartsNothing,
            NotAcceptable,
            WalkCancelled,
            Gone,
            RangeUnsatisfiable,
            Invalid,
            WalkFailed,
            QuotaExceeded,
            DayFull,
            WalkUnfinished,
            QueueFull,
            Busy,
            Starting,
            BucketUnavailable,
            CatalogueUnavailable,
        ),
    },
)
async def get_film(
    query: Annotated[WalkQuery, Query()],
    models: ModelsDep,
    settings: SettingsDep,
    blocklist: BlocklistDep,
    intake: IntakeDep,
    live: LiveUpdatesDep,
    views: WalkViewsDep,
    catalogue: CatalogueDep,
    bucket: BucketDep,
    scopes: ScopesDep,
    turn: TurnDep,
    caller: Caller,
    network: Network,
    starts: Starts,
    conditions: ConditionsDep,
    http: Request,
    accept: Annotated[
        str | None, Header(description="image/gif (the default), video/mp4, or application/json for the walk resource.")
    ] = None,
    prefer: Annotated[str | None, Header(description="wait=20 waits up to 20 s for the walk (long poll).")] = None,
) -> Response:
    """Get the film of a walk between prompts. A GET starts the walk if it is new; repeat it until the walk is done.

    A deployment can ask for an API key or a cookie before a GET starts a walk. Prefetches and images on other sites
    start none. A HEAD starts nothing and does not wait: it gets 404 for a walk that nobody has requested.
    """
    media_type = preferred(accept, OFFERED)
    if media_type is None:
        raise NotAcceptable(f"Accept one of {', '.join(OFFERED)}.")
    if media_type in DOWNLOADS and DOWNLOADS[media_type].needs_video and not can_make_video():
        raise NotAcceptable(NO_VIDEO)
    asked = complete(query, query.named_stops, models.choose(query.model).card, settings)
    blocklist.check(asked)
    spec = scopes.applied(asked, caller, query.listed)
    http.scope[PRIVATE] = is_private(spec)
    if conditions.headers_only:
        found = await catalogue.get(spec.id)
    else:
        if must_sign_in(caller, settings) and not await catalogue.knows(spec.id):
            raise SignInRequired(HOW_TO_SIGN_IN)
        if starts:
            found, _ = await intake.request(spec, caller, network, listed=query.listed)
        else:
            found = await _existing(spec, catalogue)
        turn.end()
        found = await _await_end(found, live, max(query.wait, waiting_s(prefer)))
    _raise_if_failed(found)
    if found.state is not State.DONE:
        return await _unfinished(found, media_type, views)
    # This URL names a request, not a walk: its meaning changes with the default model and its card.
    headers = {"Vary": "Accept, Prefer", "Content-Location": walk_url(found.id), "Cache-Control": "no-cache"}
    if media_type not in DOWNLOADS:
        return JSONResponse((await views.show(found)).model_dump(mode="json"), headers=headers)
    answer = await film_of(found, DOWNLOADS[media_type].name, bucket, conditions)
    answer.headers.update(headers)
    return answer


@router.post(
    "/walks",
    summary="Create a walk",
    status_code=201,
    openapi_extra=WITHOUT_CREDENTIALS,
    responses={
        201: {"description": "The walk was started", "headers": LOCATION},
        200: {"description": "The walk existed already", "model": WalkResource, "headers": LOCATION},
        400: {"description": "The body is not valid JSON", "content": documented(Invalid)[422]["content"]},
        **documented(
            UnknownKey,
            SignInRequired,
            BodyTooLarge,
            Invalid,
            QuotaExceeded,
            DayFull,
            QueueFull,
            Busy,
            Starting,
            BucketUnavailable,
            CatalogueUnavailable,
        ),
    },
)
async def create_walk(
    request: WalkBody,
    models: ModelsDep,
    settings: SettingsDep,
    blocklist: BlocklistDep,
    intake: IntakeDep,
    views: WalkViewsDep,
    pictures: PictureStoreDep,
    clips: ClipStoreDep,
    scopes: ScopesDep,
    owner: Owner,
    network: Network,
    response: Response,
) -> WalkResource:
    """Create a walk: between prompts and pictures of yours, or of another kind. Restarts one that failed."""
    if isinstance(request, WalkRequest):
        sizes = await pictures.sizes(owner, pictures_in(request.named_stops))
        card = models.choose(request.model).card
        spec: WalkSpec = complete(request, request.named_stops, card, settings, sizes)
    else:
        uploads = await uploads_of(request, owner, pictures, clips)
        spec = complete_kind(request, models.choose(request.model, request.needs).card, settings, uploads)
    blocklist.check(spec)
    listed = not spec.has_uploads if request.listed is None else request.listed
    spec = scopes.applied(spec, owner, listed)
    found, started = await intake.request(spec, owner, network, listed=listed, again=True)
    response.status_code = 201 if started else 200
    response.headers["Location"] = walk_url(found.id)
    response.headers["Cache-Control"] = "no-store"
    return await views.show(found)


@router.get(
    "/walks/{walk_id}",
    summary="Get a walk",
    openapi_extra=WITHOUT_CREDENTIALS,
    responses=documented(Busy, *READING),
)
async def get_walk(opened: OpenedWalk, views: WalkViewsDep, response: Response) -> WalkResource:
    """Get a walk: its spec, state, finished frames and films. With a link, its URLs have the link's token, too."""
    response.headers["Cache-Control"] = "no-store"
    return await views.show(opened.walk, opened.link)


@router.delete(
    "/walks/{walk_id}",
    summary="Withdraw your request",
    response_model=WalkResource,
    responses={204: {"description": "With erase=true"}, **documented(Busy, *READING, NotOwner)},
)
async def withdraw_request(
    found: KnownWalk,
    intake: IntakeDep,
    deletion: DeletionDep,
    views: WalkViewsDep,
    caller: Caller,
    erase: Annotated[
        bool, Query(description="Whether to delete the walk with its frames and films, unless others requested it.")
    ] = False,
) -> WalkResource | Response:
    """Withdraw your request. Rendering stops when no request is left; a finished walk stays, unless you delete it."""
    if caller == ANONYMOUS:
        # Anonymous callers share one owner: each could stop the walks of all others.
        raise NotOwner(OWNERS_ONLY)
    if erase:
        if not await deletion.of_walk(found.id, caller):
            raise NotOwner(OWNERS_ONLY)
        return Response(status_code=204)
    return await views.show(await intake.withdraw(found.id, caller))


@router.get(
    "/walks/{walk_id}/request",
    summary="Get your request",
    openapi_extra=WITHOUT_CREDENTIALS,
    responses=documented(Busy, *READING),
)
async def get_request(found: KnownWalk, gallery: GalleryDep, caller: Caller, response: Response) -> RequestResource:
    """Get whether you requested the walk, and whether your request lists it in the gallery."""
    response.headers["Cache-Control"] = "no-store"
    # Anonymous callers share one owner, so no request is theirs alone.
    listed = None if caller == ANONYMOUS else await gallery.is_listed(found.id, caller)
    return RequestResource(mine=listed is not None, listed=bool(listed))


@router.put(
    "/walks/{walk_id}/request",
    summary="List or unlist your walk",
    responses={
        400: {"description": "The body is not valid JSON", "content": documented(Invalid)[422]["content"]},
        **documented(Busy, *READING, NotOwner, BodyTooLarge),
    },
)
async def change_request(listing: Listing, found: KnownWalk, gallery: GalleryDep, caller: Caller) -> RequestResource:
    """List or unlist a walk that you requested. The gallery shows it while any request lists it and nobody hid it."""
    listed = None if caller == ANONYMOUS else await gallery.set_listed(found.id, caller, listing.listed)
    if listed is None:
        raise NotOwner(f"{OWNERS_ONLY} To become one, request the same walk with POST /api/v1/walks.")
    return RequestResource(mine=True, listed=listed)


@router.get(
    "/walks/{walk_id}/events",
    summary="Watch a walk",
    response_class=Response,
    openapi_extra=WITHOUT_CREDENTIALS,
    responses=DOCUMENTED | documented(Busy, *READING),
)
async def watch_walk(
    opened: OpenedWalk,
    reader: ReaderDep,
    readers: ReadersDep,
    views: WalkViewsDep,
    live: LiveUpdatesDep,
    last_event_id: Annotated[
        str | None, Header(description="The last revision received; the stream continues after it.")
    ] = None,
) -> EventStream:
    """Watch a walk by server-sent events. Each is a snapshot with its revision as id; the last one is the end."""
    found = opened.walk
    seen = int(last_event_id) if last_event_id and re.fullmatch("[0-9]{1,9}", last_event_id) else 0
    # A revision of another catalogue, or a walk that has ended: send it again, as clients reconnect to an empty stream.
    if seen > found.revision or found.ended:
        seen = 0
    tell = watched_by(reader, opened.link, readers, views) if is_private(found.spec) else shared
    return EventStream(events_of(found, seen, live, tell=tell), headers=HEADERS)


async def _existing(spec: WalkSpec, catalogue: Catalogue) -> Walk:
    """The walk of a spec, for a GET that must not start it. Raises GetStartsNothing, Gone."""
    try:
        return await catalogue.get(spec.id)
    except WalkNotFound:
        raise GetStartsNothing(REFUSED) from None


async def _await_end(found: Walk, live: LiveUpdates, seconds: float) -> Walk:
    """Wait until a walk has ended, at most `seconds`. Returns the newest snapshot."""
    if seconds and not found.ended:
        with anyio.move_on_after(seconds):
            while not found.ended and (update := await live.newer(found.id, found.revision)):
                found = update.walk
    return found


def _raise_if_failed(found: Walk) -> None:
    again = "To restart it, send POST /api/v1/walks."
    if found.state is State.FAILED:
        raise WalkFailed(f"{found.error} {again}")
    if found.state is State.CANCELLED:
        raise WalkCancelled(f"No request for it was left. {again}")


async def _unfinished(found: Walk, media_type: str, views: WalkViews) -> Response:
    """The walk as JSON. Raises WalkUnfinished if a film is requested: clients must not save this as the film."""
    if media_type in DOWNLOADS:
        ready = f"{len(found.frames_ready)} of {found.spec.frames} frames are ready"
        again = f"Send the same request again in {WalkUnfinished.retry_after_s} seconds"
        raise WalkUnfinished(f"The walk is {found.state}: {ready}. {again}, or follow {walk_url(found.id)}/events.")
    headers = {
        "Location": walk_url(found.id),
        "Retry-After": str(WalkUnfinished.retry_after_s),
        "Cache-Control": "no-store",
        "Vary": "Accept, Prefer",
    }
    return JSONResponse((await views.show(found)).model_dump(mode="json"), status_code=202, headers=headers)
