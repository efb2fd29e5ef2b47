"""A walk's changes as server-sent events. Each event is encoded once for all watchers (see web/live.py).

FastAPI's own event streams take two tasks and two memory streams per watcher, which is most of the cost of a walk with
a thousand watchers (bench/watchers.py).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

import anyio
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from momalisa_api.problems import CatalogueUnavailable
from momalisa_api.walks.walk import Walk
from momalisa_api.web.live import LiveUpdates, Update
from momalisa_api.web.readers import Readers
from momalisa_api.web.routes.access import Reader
from momalisa_api.web.routes.schemas import WalkResource, WalkViews

RECONNECT_MS: Final = 2000
# Proxies close connections that are silent for long.
PING_S: Final = 15.0
# Seconds for which a watcher of a private walk may read it without being checked again.
RECHECK_S: Final = 5.0
ToEvent = Callable[[Update], Awaitable[bytes | None]]
# No cache may store events, and nginx must not buffer them.
HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(StreamingResponse):
    """A stream of server-sent events."""

    media_type = "text/event-stream"


_FIELDS: Final = {"data": "The walk as JSON.", "event": "Always `walk`.", "id": "The walk's revision."}
_EVENT: Final = {name: {"type": "string", "description": said} for name, said in _FIELDS.items()}
_SCHEMA: Final = {"type": "object", "description": "A server-sent event.", "properties": _EVENT}
DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events with a snapshot of the walk each; comments while nothing changes",
        "content": {"text/event-stream": {"itemSchema": _SCHEMA}},
    }
}


async def events_for(walks: Sequence[Walk], views: WalkViews) -> list[bytes]:
    """Encode snapshots as events with their revisions as ids. Raises CatalogueUnavailable."""
    return [_event(shown) for shown in await views.show_all(walks)]


def _event(shown: WalkResource) -> bytes:
    data = shown.model_dump_json()
    return format_sse_event(data_str=data, event="walk", id=str(shown.revision), retry=RECONNECT_MS)


async def shared(update: Update) -> bytes | None:
    """The event of an update as it is for all watchers of a public walk."""
    return update.event


def watched_by(reader: Reader, link: str | None, readers: Readers, views: WalkViews) -> ToEvent:
    """The events of a private walk for one watcher, while this one may read it. link: the token that opened it."""
    checked_at = anyio.current_time()

    async def tell(update: Update) -> bytes | None:
        nonlocal checked_at
        if anyio.current_time() - checked_at > RECHECK_S:
            checked_at = anyio.current_time()
            if not await readers.still(update.walk, reader.owner, reader.link):
                return None
        return update.event if link is None else _event(await views.show(update.walk, link))

    return tell


async def events_of(
    found: Walk, seen: int, live: LiveUpdates, ping_s: float = PING_S, tell: ToEvent = shared
) -> AsyncIterator[bytes]:
    """Events of a walk after the revision `seen`, until the walk ends or this process shuts down.

    During an outage the stream stays open, and the snapshot follows afterwards.
    ping_s: seconds without an event after which a comment is sent. tell: the event of an update for this watcher; None
    ends the stream.
    """
    if found.revision > seen:
        # The first event is also written once for all watchers: a thousand reconnect when a process was restarted.
        live.look_soon()
    while True:
        with anyio.move_on_after(ping_s) as silence:
            update = await live.newer(found.id, seen)
        if silence.cancelled_caught:
            yield KEEPALIVE_COMMENT
            continue
        if update is None:
            return
        try:
            event = await tell(update)
        except CatalogueUnavailable:
            # Its client reconnects.
            return
        if event is None:
            return
        yield event
        seen = update.walk.revision
        if update.walk.ended:
            return
