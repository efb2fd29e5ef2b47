"""The api's half of the model contract (docs/contract.md); tests/contract holds it against the replica's half."""

import base64
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from momalisa_api.walks.spec import Recipe

RENDER_PATH = "/v1/render"
MODEL_PATH = "/v1/model"
READY_PATH = "/readyz"


class About(BaseModel):
    """What people want to know of a model; two cards may differ in it."""

    model_config = ConfigDict(frozen=True)

    title: str = ""
    summary: str = ""
    license: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    limits: str = ""
    words: tuple[str, ...] = Field((), description="The only words that the model knows; none: no such limit.")


class ModelCard(BaseModel):
    """What a deployment renders with. Unknown members are left alone: the contract only grows."""

    model_config = ConfigDict(frozen=True)

    model: str
    revision: str
    micro_batch: int = Field(ge=1)
    width: int
    height: int
    size_multiple: int
    min_size: int
    max_size: int
    num_inference_steps: int
    max_steps: int
    guidance_scale: float
    negative_prompt: str
    scheduler: str
    schedulers: tuple[str, ...]
    token_limit: int
    about: About = About()

    def agrees_with(self, other: "ModelCard") -> bool:
        """Whether two cards promise the same pictures; what they say about themselves may differ."""
        return self.model_dump(exclude={"about"}) == other.model_dump(exclude={"about"})


class ModelAnswer(BaseModel):
    """GET /v1/model: what a replica has loaded."""

    card: ModelCard
    fingerprint: str


class Unheard(BaseModel):
    """A prompt's tail that the text encoder has no room for."""

    prompt: str
    unheard: str
    detail: str


class Head(BaseModel):
    """The first line of a render answer."""

    model: str
    revision: str
    fingerprint: str
    warnings: tuple[Unheard, ...] = ()


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
