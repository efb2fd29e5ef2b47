"""Asking for a walk and watching it: the REST GET, the resource, its events."""

import re
from typing import Annotated

import anyio
from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import JSONResponse

from momalisa_api.films.films import can_make_video
from momalisa_api.films.kinds import FILM_KINDS
from momalisa_api.problems import (
    BodyTooLarge,
    BucketUnavailable,
    BudgetSpent,
    CatalogueUnavailable,
    Gone,
    Invalid,
    KeyUnknown,
    NotAcceptable,
    NotYours,
    RangeUnsatisfiable,
    TooManyWaiting,
    WalkCancelled,
    WalkFailed,
    WalkUnknown,
)
from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.walks.walk import State, Walk
from momalisa_api.web.live import LiveUpdates
from momalisa_api.web.problem_json import documented
from momalisa_api.web.request import WalkQuery, WalkRequest, complete
from momalisa_api.web.routes.auth import Asker, Caller
from momalisa_api.web.routes.deps import (
    BlocklistDep,
    BucketDep,
    CardDep,
    GalleryDep,
    IntakeDep,
    KnownWalk,
    LiveUpdatesDep,
    SettingsDep,
)
from momalisa_api.web.routes.events import DOCUMENTED, HEADERS, EventStream, events_of
from momalisa_api.web.routes.media import NO_VIDEO, NoneMatch, RangeHeader, film_of
from momalisa_api.web.routes.negotiation import preferred, waiting_s
from momalisa_api.web.routes.schemas import AskResource, Listing, WalkResource, WalkViews, WalkViewsDep, walk_url

# The films that one GET can answer with, by media type.
DOWNLOADS = {kind.media_type: kind for kind in FILM_KINDS.values() if kind.download}
OFFERED = (*DOWNLOADS, "application/json")
RETRY_AFTER_S = 2
WHO_ASKED = "Send the cookie that your POST was answered with, or an API key: only who asked"
LOCATION = {"Location": {"description": "The walk's own url.", "schema": {"type": "string"}}}
RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait before asking again.", "schema": {"type": "string"}}}
BINARY = {"schema": {"type": "string", "format": "binary"}}

router = APIRouter(tags=["walks"])


@router.get(
    "/walk",
    summary="A walk between two prompts, in one GET",
    response_model=WalkResource,
    responses={
        200: {
            "description": "The walk is done: the GIF, or what Accept asks for",
            "content": {media_type: BINARY for media_type in DOWNLOADS},
        },
        206: {"description": "The range asked for", "content": {media_type: BINARY for media_type in DOWNLOADS}},
        304: {"description": "You have it already"},
        202: {
            "description": "The walk is on its way: ask again after Retry-After",
            "model": WalkResource,
            "headers": LOCATION | RETRY_AFTER,
        },
        **documented(
            KeyUnknown,
            NotAcceptable,
            WalkCancelled,
            Gone,
            RangeUnsatisfiable,
            Invalid,
            WalkFailed,
            BudgetSpent,
            TooManyWaiting,
            BucketUnavailable,
            CatalogueUnavailable,
        ),
    },
)
async def walk(
    query: Annotated[WalkQuery, Query()],
    card: CardDep,
    settings: SettingsDep,
    blocklist: BlocklistDep,
    intake: IntakeDep,
    live: LiveUpdatesDep,
    views: WalkViewsDep,
    bucket: BucketDep,
    caller: Caller,
    accept: Annotated[
        str | None, Header(description="image/gif (the default), video/mp4, or application/json for the facts.")
    ] = None,
    prefer: Annotated[str | None, Header(description="wait=20 holds the line for up to 20 s.")] = None,
    byte_range: RangeHeader = None,
    none_match: NoneMatch = None,
) -> Response:
    """A walk between two prompts, in one GET. Starts it where it is unknown; the same GET later gives the film."""
    media_type = preferred(accept, OFFERED)
    if media_type is None:
        raise NotAcceptable(f"Accept one of {', '.join(OFFERED)}.")
    if media_type in DOWNLOADS and DOWNLOADS[media_type].needs_video and not can_make_video():
        raise NotAcceptable(NO_VIDEO)
    spec = complete(query, query.stops, card, settings)
    blocklist.check(spec)
    found, _ = await intake.ask(spec, caller)
    found = await _await_end(found, live, max(query.wait, waiting_s(prefer)))
    _raise_if_ended_badly(found)
    if found.state is not State.DONE:
        return await _on_its_way(found, views)
    # This url names a wish, not a walk: what it means can change with the model card.
    headers = {"Vary": "Accept, Prefer", "Content-Location": walk_url(found.id), "Cache-Control": "no-cache"}
    if media_type not in DOWNLOADS:
        return JSONResponse((await views.show(found)).model_dump(mode="json"), headers=headers)
    answer = await film_of(found, DOWNLOADS[media_type].name, bucket, byte_range, none_match)
    answer.headers.update(headers)
    return answer


@router.post(
    "/walks",
    summary="Ask for a walk with every option",
    status_code=201,
    responses={
        201: {"description": "The walk was started", "headers": LOCATION},
        200: {"description": "The walk was known already", "model": WalkResource, "headers": LOCATION},
        400: {"description": "The body is not JSON", "content": documented(Invalid)[422]["content"]},
        **documented(
            KeyUnknown, BodyTooLarge, Invalid, BudgetSpent, TooManyWaiting, BucketUnavailable, CatalogueUnavailable
        ),
    },
)
async def ask(
    wish: WalkRequest,
    card: CardDep,
    settings: SettingsDep,
    blocklist: BlocklistDep,
    intake: IntakeDep,
    views: WalkViewsDep,
    asker: Asker,
    response: Response,
) -> WalkResource:
    """Ask for a walk with two or more stops and every option. Starts a failed or cancelled walk again."""
    spec = complete(wish, wish.named_stops, card, settings)
    blocklist.check(spec)
    found, started = await intake.ask(spec, asker, listed=wish.listed, again=True)
    response.status_code = 201 if started else 200
    response.headers["Location"] = walk_url(found.id)
    response.headers["Cache-Control"] = "no-store"
    return await views.show(found)


@router.get(
    "/walks/{walk_id}",
    summary="A walk as it is now",
    responses=documented(WalkUnknown, Invalid, CatalogueUnavailable),
)
async def resource(found: KnownWalk, views: WalkViewsDep, response: Response) -> WalkResource:
    """A walk: its spec, its state, which frames have landed, its films."""
    response.headers["Cache-Control"] = "no-store"
    return await views.show(found)


@router.delete(
    "/walks/{walk_id}",
    summary="Withdraw your ask",
    responses=documented(KeyUnknown, NotYours, WalkUnknown, Invalid, CatalogueUnavailable),
)
async def withdraw(found: KnownWalk, intake: IntakeDep, views: WalkViewsDep, caller: Caller) -> WalkResource:
    """Withdraw your ask; rendering stops when nobody asks any more. A walk that is done stays done."""
    if caller == ANONYMOUS:
        # They are one owner together: any of them could stop every other's walks.
        raise NotYours(f"{WHO_ASKED} can withdraw.")
    return await views.show(await intake.withdraw(found.id, caller))


@router.get(
    "/walks/{walk_id}/ask",
    summary="Your ask",
    responses=documented(KeyUnknown, WalkUnknown, Invalid, CatalogueUnavailable),
)
async def your_ask(found: KnownWalk, gallery: GalleryDep, caller: Caller, response: Response) -> AskResource:
    """Whether you ask for the walk, and whether you let it hang on the wall."""
    response.headers["Cache-Control"] = "no-store"
    # Those who bring no name are one owner together: to them nothing is theirs.
    listed = None if caller == ANONYMOUS else await gallery.asked(found.id, caller)
    return AskResource(mine=listed is not None, listed=bool(listed))


@router.put(
    "/walks/{walk_id}/ask",
    summary="List or unlist a walk of yours",
    responses={
        400: {"description": "The body is not JSON", "content": documented(Invalid)[422]["content"]},
        **documented(KeyUnknown, NotYours, WalkUnknown, BodyTooLarge, Invalid, CatalogueUnavailable),
    },
)
async def change_your_ask(wish: Listing, found: KnownWalk, gallery: GalleryDep, caller: Caller) -> AskResource:
    """List or unlist a walk that you ask for. It hangs on the wall while anybody lists it, unless it was taken off."""
    listed = None if caller == ANONYMOUS else await gallery.set_listed(found.id, caller, wish.listed)
    if listed is None:
        raise NotYours(
            f"{WHO_ASKED} can list or unlist it. Whoever asks for it too, with POST /api/v1/walks, can as well."
        )
    return AskResource(mine=True, listed=listed)


@router.get(
    "/walks/{walk_id}/events",
    summary="A walk as server-sent events",
    response_class=Response,
    responses=DOCUMENTED | documented(WalkUnknown, Invalid, CatalogueUnavailable),
)
async def events(
    found: KnownWalk,
    views: WalkViewsDep,
    live: LiveUpdatesDep,
    last_event_id: Annotated[str | None, Header(description="The revision seen last; resumes after it.")] = None,
) -> EventStream:
    """The walk as server-sent events: each a snapshot, its id the revision, the last one when the walk has ended."""
    seen = int(last_event_id) if last_event_id and re.fullmatch("[0-9]{1,9}", last_event_id) else 0
    # Seen in another catalogue; or it has ended, and is told again: an empty stream would be asked for without end.
    if seen > found.revision or found.ended:
        seen = 0
    return EventStream(events_of(found, seen, views, live), headers=HEADERS)


async def _await_end(found: Walk, live: LiveUpdates, seconds: float) -> Walk:
    """Hold the line until a walk has ended, at most some seconds. Returns the newest snapshot."""
    if seconds and not found.ended:
        with anyio.move_on_after(seconds):
            while not found.ended and (news := await live.newer(found.id, found.revision)):
                found = news.walk
    return found


def _raise_if_ended_badly(found: Walk) -> None:
    again = "To start it again, POST it to /api/v1/walks."
    if found.state is State.FAILED:
        raise WalkFailed(f"{found.error} {again}")
    if found.state is State.CANCELLED:
        raise WalkCancelled(f"Nobody asked for it any more. {again}")


async def _on_its_way(found: Walk, views: WalkViews) -> Response:
    headers = {
        "Location": walk_url(found.id),
        "Retry-After": str(RETRY_AFTER_S),
        "Cache-Control": "no-store",
        "Vary": "Accept, Prefer",
    }
    return JSONResponse((await views.show(found)).model_dump(mode="json"), status_code=202, headers=headers)
