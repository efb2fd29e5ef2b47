"""The api's half of the model contract (docs/model-contract.md); tests/contract holds it against the replica's half."""

import base64
from typing import Any

from pydantic import BaseModel, Field

from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.spec import Recipe

RENDER_PATH = "/v1/render"
MODEL_PATH = "/v1/model"
READY_PATH = "/readyz"


class ModelAnswer(BaseModel):
    """GET /v1/model: what a replica has loaded."""

    card: ModelCard
    fingerprint: str


class Truncated(BaseModel):
    """A prompt's tail that the text encoder has no room for."""

    prompt: str
    truncated: str
    detail: str


class Head(BaseModel):
    """The first line of a render answer."""

    model: str
    revision: str
    fingerprint: str
    warnings: tuple[Truncated, ...] = ()


class RenderedFrame(BaseModel):
    """One further line of a render answer."""

    fraction: float
    png: bytes
    seconds: float
    marked: bool = Field(False, description="The model's safety checker objects to it.")


class Trouble(BaseModel):
    """The last line of a render answer that broke off: why."""

    problem: dict[str, Any]


def render_request(recipe: Recipe, fractions: list[float]) -> dict[str, Any]:
    """The body that asks a replica for frames: the recipe in the words of diffusers."""
    body = recipe.model_dump()
    body["num_inference_steps"] = body.pop("steps")
    return {"recipe": body, "fractions": fractions}


def read_line(line: dict[str, Any]) -> RenderedFrame | Trouble:
    """A line after the first. Raises ValueError where it is neither a frame nor a problem."""
    if "problem" in line:
        return Trouble.model_validate(line)
    return RenderedFrame.model_validate({**line, "png": base64.b64decode(line["png"], validate=True)})
