"""The API's half of the model contract (docs/model-contract.md). tests/contract compares both halves."""

import base64
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.spec import Recipe

RENDER_PATH = "/v1/render"
MODELS_PATH = "/v1/models"
# For replicas of the last release, which hold one model.
MODEL_PATH = "/v1/model"
READY_PATH = "/readyz"
# It becomes a part of a key in the bucket. An endpoint of Vertex AI tells none.
Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{0,64}$")]
# The feature of replicas that render recipes with the early blend.
EARLY_BLEND = "early_blend"


class ModelAnswer(BaseModel):
    """GET /v1/model: a model that a replica has loaded. features: beyond the first release of the contract."""

    model_config = ConfigDict(frozen=True)

    card: ModelCard
    fingerprint: Fingerprint
    features: tuple[str, ...] = ()

    def can_render(self, recipe: Recipe) -> bool:
        """Whether the replica understands a recipe of this model. Older replicas, and endpoints, have no features."""
        return recipe.blend == "embeddings" or EARLY_BLEND in self.features


class ModelsAnswer(BaseModel):
    """GET /v1/models: all models that a replica has loaded."""

    models: tuple[ModelAnswer, ...]


class Truncated(BaseModel):
    """The end of a prompt that the text encoder ignores, because the prompt is too long."""

    prompt: str
    truncated: str
    detail: str


class Head(BaseModel):
    """The first line of a render answer."""

    model: str
    revision: str
    fingerprint: Fingerprint
    warnings: tuple[Truncated, ...] = ()


class RenderedFrame(BaseModel):
    """One further line of a render answer."""

    fraction: float
    png: bytes
    seconds: float
    marked: bool = Field(False, description="Whether the model's safety checker flagged the frame.")


class RenderProblem(BaseModel):
    """The last line of an answer that ended early: a problem document."""

    problem: dict[str, Any]


def render_request(recipe: Recipe, fractions: list[float]) -> dict[str, Any]:
    """The body of a render request: the recipe with the names that diffusers uses."""
    body = recipe.content
    body["num_inference_steps"] = body.pop("steps")
    return {"recipe": body, "fractions": fractions}


def read_line(line: dict[str, Any]) -> RenderedFrame | RenderProblem:
    """Parse a line after the first. Raises ValueError if it is neither a frame nor a problem."""
    if "problem" in line:
        return RenderProblem.model_validate(line)
    return RenderedFrame.model_validate({**line, "png": base64.b64decode(line["png"], validate=True)})
