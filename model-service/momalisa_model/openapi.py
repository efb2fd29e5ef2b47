"""The general part of the OpenAPI document; routes and schemas have their own descriptions."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute

from momalisa_model.problem_json import ProblemDocument

DESCRIPTION: Final = """\
One replica: it renders frames of a walk on one device. The API service calls it, and so can you, with curl.

**Rendering.** `POST /v1/render` takes a recipe, which is everything but the fraction that decides a frame's pixels, \
and fractions. It streams each frame as soon as it is ready. Closing the connection cancels the rest.

**Busy.** A full queue is answered with 503 and `Retry-After`.

**Errors.** Every error is `application/problem+json` (RFC 9457). Its `type` identifies the problem, and its `detail` \
says what is wrong and what to do.

**Stability.** Changes of version 1 only add. While MoMALisa is 0.x, a minor version can change names.
"""

TAGS: Final[list[dict[str, Any]]] = [
    {"name": "rendering", "description": "Frames, and the model that renders them."},
    {"name": "health", "description": "For load balancers, orchestrators and Prometheus."},
    {"name": "platforms", "description": "The contract of Vertex AI and KServe, if its routes are set."},
]


def operation_id(route: APIRoute) -> str:
    """The operation's id: the name of the route's function. Generated clients name their functions after it."""
    return route.name


ABOUT: Final[dict[str, Any]] = {
    "title": "MoMALisa model service",
    "summary": "Frames of a walk through a diffusion model's latent space.",
    "description": DESCRIPTION,
    "contact": {"name": "The MoMALisa maintainers"},
    "license_info": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
    "servers": [{"url": "/", "description": "The replica that this document comes from."}],
    "openapi_tags": TAGS,
    "generate_unique_id_function": operation_id,
}


def finish_document(app: FastAPI, max_fractions: int) -> None:
    """Complete the app's document with what FastAPI cannot derive from routes and schemas.

    max_fractions: this replica's own limit. The limits of its model's card are missing: it may not be loaded yet.
    """
    bare = app.openapi

    def completed() -> dict[str, Any]:
        document = bare()
        schemas = document["components"]["schemas"]
        schemas[ProblemDocument.__name__] = ProblemDocument.model_json_schema()
        schemas["RenderRequest"]["properties"]["fractions"]["maxItems"] = max_fractions
        return document

    app.openapi = completed  # type: ignore[method-assign]
