"""A walk's changes as server-sent events, each written out once for all who watch. What has changed, watch.py knows.

FastAPI's own way takes every event through two tasks and two streams for each who watches, which is most of what a walk
with a thousand watchers costs (bench/watchers.py).
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

import anyio
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from momalisa_api.problems import CatalogueUnavailable
from momalisa_api.walks.walk import Walk
from momalisa_api.web.live import LiveUpdates
from momalisa_api.web.routes.schemas import WalkViews

RECONNECT_MS: Final = 2000
# Whatever stands between us and a browser takes a line that is silent for long for a dead one.
PING_S: Final = 15.0
# Nobody shall keep events, and nginx not gather them before it passes them on.
HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(StreamingResponse):
    """Events as they come."""

    media_type = "text/event-stream"


_FIELDS: Final = {"data": "The walk as JSON.", "event": "Always `walk`.", "id": "The walk's revision."}
_EVENT: Final = {name: {"type": "string", "description": said} for name, said in _FIELDS.items()}
DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events, each a snapshot of the walk; comments while nothing happens",
        "content": {"text/event-stream": {"itemSchema": {"type": "object", "properties": _EVENT}}},
    }
}


async def event_of(walk: Walk, views: WalkViews) -> bytes:
    """A snapshot as an event, its id the revision. Raises CatalogueUnavailable."""
    shown = (await views.show(walk)).model_dump_json()
    return format_sse_event(data_str=shown, event="walk", id=str(walk.revision), retry=RECONNECT_MS)


async def events_of(
    found: Walk, seen: int, views: WalkViews, live: LiveUpdates, ping_s: float = PING_S
) -> AsyncIterator[bytes]:
    """Events of a walk above the revision seen, the last one when it, or this process, ends.

    ping_s: seconds of silence after which a comment is sent.
    """
    # In an outage the stream stays open, and the snapshot is told when it is over.
    with suppress(CatalogueUnavailable):
        if found.revision > seen:
            first = await event_of(found, views)
            seen = found.revision
            yield first
        if found.ended:
            return
    while True:
        with anyio.move_on_after(ping_s) as silence:
            told = await live.newer(found.id, seen)
        if silence.cancelled_caught:
            yield KEEPALIVE_COMMENT
            continue
        if told is None:
            return
        yield told.event
        seen = told.walk.revision
        if told.walk.ended:
            return
