"""The description of the API as a whole in its OpenAPI document; routes and schemas describe themselves."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute

from momalisa_api.web.routes.schemas import EXAMPLE, WalkResource

DESCRIPTION: Final = """\
A walk is an animation that moves between prompts in a generative model's latent space.

**Quick start.** `GET /api/v1/walk?start=a+giraffe&end=a+battleship&wait=25` makes a walk and returns it as a GIF. It \
returns 202 if the walk needs longer; send the same request again.

**All options.** `POST /api/v1/walks` starts a walk with any number of stops and returns it at once. Its `events` \
report each frame and film as soon as it is ready. The same request always gets the same walk.

**Owners.** A walk belongs to everyone who requested it, identified by an API key or by the cookie that the first POST \
sets.

**Errors.** Every error is `application/problem+json` (RFC 9457). Its `type` identifies the problem, and its `detail` \
says what is wrong and what to do.

**Stability.** Changes of version 1 only add. While MoMALisa is 0.x, a minor version can change names.
"""

TAGS: Final[list[dict[str, Any]]] = [
    {"name": "walks", "description": "Start a walk, follow it, withdraw or list it."},
    {"name": "pictures", "description": "Frames and films of a walk."},
    {"name": "gallery", "description": "The listed walks, and the model that renders them."},
    {"name": "health", "description": "For load balancers, orchestrators and Prometheus."},
]


def operation_id(route: APIRoute) -> str:
    """The operation's id: the name of the route's function. Generated clients name their functions after it."""
    return route.name


ABOUT: Final[dict[str, Any]] = {
    "title": "MoMALisa",
    "summary": "Walks between artworks in the latent space of a generative model.",
    "description": DESCRIPTION,
    "contact": {"name": "The MoMALisa maintainers"},
    "license_info": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
    "servers": [{"url": "/", "description": "The server that this document comes from."}],
    "openapi_tags": TAGS,
    "generate_unique_id_function": operation_id,
}


def keep_nulls(app: FastAPI) -> None:
    """Restore the null fields in the example of a walk: FastAPI drops them, and the example would be invalid."""
    bare = app.openapi

    def complete() -> dict[str, Any]:
        document = bare()
        if walk := document["components"]["schemas"].get(WalkResource.__name__):
            walk["examples"] = [EXAMPLE]
        return document

    app.openapi = complete  # type: ignore[method-assign]
