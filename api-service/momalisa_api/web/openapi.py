"""The description of the API as a whole in its OpenAPI document; routes and schemas describe themselves."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute

from momalisa_api.web.kind_request import ApartRequest, ClipRequest, IntoRequest, RestyleRequest
from momalisa_api.web.request import WalkRequest
from momalisa_api.web.routes.schemas import EXAMPLE, WalkResource
from momalisa_api.web.stop_request import PictureRequest

DESCRIPTION: Final = """\
A walk is an animation that moves between prompts in a generative model's latent space.

**Quick start.** `GET /api/v1/walk?start=a+giraffe&end=a+battleship&wait=25` makes a walk and returns it as a GIF. It \
returns 503 with `Retry-After` if the walk needs longer; send the same request again. This GET starts work: it is safe \
to repeat, but not free. `robots.txt` keeps crawlers off the API.

**All options.** `POST /api/v1/walks` starts a walk with any number of stops and returns it at once. Its `events` \
report each frame and film as soon as it is ready. The same request always gets the same walk.

**Owners.** A walk belongs to everyone who requested it, identified by a sign-in, by an API key, or by \
the cookie that the first POST sets.

**Models.** A server can have several models: `GET /api/v1/models` lists them, and `model` in a request chooses one.

**Limits.** The limits in this document are those of the server's settings. Each model has its own limits for sizes, \
steps and schedulers: its card has them, and those in this document are the widest that a model can have.

**Errors.** Every error is `application/problem+json` (RFC 9457). Its `type` identifies the problem, and its `detail` \
says what is wrong and what to do.

**Stability.** Changes of version 1 only add. While MoMALisa is 0.x, a minor version can change names.
"""

WALK_PATH: Final = "/api/v1/walk"
TAGS: Final[list[dict[str, Any]]] = [
    {"name": "walks", "description": "Start a walk, follow it, withdraw or list it."},
    {"name": "pictures", "description": "Frames and films of a walk."},
    {"name": "uploads", "description": "Pictures of your own: only you can read them."},
    {"name": "notices", "description": "A mail or a webhook when a walk is done."},
    {"name": "owners", "description": "Who you are to this server, and sign-in."},
    {"name": "gallery", "description": "The listed walks."},
    {"name": "models", "description": "The models that render walks, and their limits."},
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


def finish_document(app: FastAPI, limits: Mapping[str, Mapping[str, Any]]) -> None:
    """Complete the app's document with what FastAPI cannot derive from routes and schemas.

    limits: those of this deployment by field of a request, as keywords of JSON Schema.
    """
    bare = app.openapi

    def completed() -> dict[str, Any]:
        document = bare()
        _name_constants(document)
        schemas = document["components"]["schemas"]
        if walk := schemas.get(WalkResource.__name__):
            # FastAPI drops the null fields of an example, which makes it invalid.
            walk["examples"] = [EXAMPLE]
            parameters = document["paths"][WALK_PATH]["get"]["parameters"]
            # Pictures have a schema of their own, with the limits of their prompts.
            requests = (WalkRequest, IntoRequest, RestyleRequest, ClipRequest, ApartRequest, PictureRequest)
            fields = [field for request in requests for field in schemas[request.__name__]["properties"].items()]
            # The prompt of a picture may be empty, others may not.
            for request in (RestyleRequest, ClipRequest):
                _limit(schemas[request.__name__]["properties"]["prompt"], limits.get("start", {}))
            fields += [(parameter["name"], parameter["schema"]) for parameter in parameters]
            for name, schema in fields:
                _limit(schema, limits.get(name, {}))
        return document

    app.openapi = completed  # type: ignore[method-assign]


def _limit(schema: dict[str, Any], limit: Mapping[str, Any]) -> None:
    """Add a limit to a schema. In a union, null and references have it not."""
    for alternative in schema.get("anyOf", [schema]):
        if alternative.get("type") == "null" or "$ref" in alternative:
            continue
        if "items" in limit:
            _limit(alternative["items"], limit["items"])
        alternative.update({name: value for name, value in limit.items() if name != "items"})


def _name_constants(node: Any) -> None:
    """Write each `const` as an `enum` of one: generators of clients skip constants in unions."""
    if isinstance(node, dict):
        if isinstance(node.get("const"), str):
            node |= {"type": "string", "enum": [node.pop("const")]}
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            _name_constants(child)
