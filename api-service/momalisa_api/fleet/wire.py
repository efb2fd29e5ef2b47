"""The API's half of the model contract (docs/model-contract.md). tests/contract compares both halves."""

import base64
import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.models import ANY, PICTURES
from momalisa_api.walks.spec import Recipe
from momalisa_api.walks.stops import CroppedPicture

RENDER_PATH = "/v1/render"
MODELS_PATH = "/v1/models"
# For replicas of the last release, which hold one model.
MODEL_PATH = "/v1/model"
READY_PATH = "/readyz"
# It becomes a part of a key in the bucket. An endpoint of Vertex AI tells none.
Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{0,64}$")]
# The feature of replicas that render recipes with the early blend.
EARLY_BLEND = "early_blend"
# The pictures of a recipe as files of exactly its size.
Pictures = Mapping[CroppedPicture, bytes]
NO_PICTURES: Final[Pictures] = MappingProxyType({})
# Each becomes a row of the registry, and a line in the metrics.
MAX_MODELS: Final = 100


def _usable(card: ModelCard) -> ModelCard:
    """Refuse a card that breaks the contract: it would be registered, and fail every request for its model."""
    texts = (card.model, card.revision, card.negative_prompt, card.scheduler)
    low, high = card.guidance_interval or (0, 1)
    sizes = (card.width, card.height)
    if not (
        1 <= len(card.model) <= 500
        and card.model != ANY
        and 1 <= len(card.revision) <= 100
        and len(card.negative_prompt) <= 1000
        and not any("\0" in text for text in texts)
        and card.scheduler in card.schedulers
        and card.size_multiple >= 1
        and 8 <= card.min_size <= min(sizes) <= max(sizes) <= card.max_size <= 8192
        and not any(side % card.size_multiple for side in sizes)
        and 1 <= card.num_inference_steps <= card.max_steps <= 1000
        and 0 <= card.guidance_scale <= 50
        and 0 <= low < high <= 1
    ):
        raise ValueError("the card breaks the model contract")
    return card


def _named_once(models: tuple["ModelAnswer", ...]) -> tuple["ModelAnswer", ...]:
    """Refuse two cards of one model: each would replace the other in the registry, in turn."""
    if len({model.card.model for model in models}) < len(models):
        raise ValueError("a model is told twice")
    return models


class ModelAnswer(BaseModel):
    """GET /v1/model: a model that a replica has loaded. features: beyond the first release of the contract."""

    model_config = ConfigDict(frozen=True)

    card: Annotated[ModelCard, AfterValidator(_usable)]
    fingerprint: Fingerprint
    features: tuple[str, ...] = ()

    def can_render(self, recipe: Recipe) -> bool:
        """Whether the replica understands a recipe of this model. Older replicas, and endpoints, have no features."""
        needed = {EARLY_BLEND} if recipe.blend == "early" else set()
        return needed | ({PICTURES} if recipe.pictures else set()) <= {*self.features}


class ModelsAnswer(BaseModel):
    """GET /v1/models: all models that a replica has loaded."""

    models: Annotated[tuple[ModelAnswer, ...], Field(max_length=MAX_MODELS), AfterValidator(_named_once)]


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


def render_request(recipe: Recipe, fractions: list[float], pictures: Pictures = NO_PICTURES) -> dict[str, Any]:
    """The body of a render request: the recipe with the names that diffusers uses, and its pictures by their SHA-256.

    Where a visitor's picture is stored, and which part of it this is, stays unknown to replicas.
    """
    body = recipe.content
    body.pop("scope", None)
    body["num_inference_steps"] = body.pop("steps")
    sides = {"start_picture": recipe.start_picture, "end_picture": recipe.end_picture}
    files = {side: pictures[picture] for side, picture in sides.items() if picture}
    names = {side: hashlib.sha256(file).hexdigest() for side, file in files.items()}
    request = {"recipe": {**body, **names}, "fractions": fractions}
    if files:
        request["pictures"] = {names[side]: base64.b64encode(file).decode() for side, file in files.items()}
    return request


def read_line(line: dict[str, Any]) -> RenderedFrame | RenderProblem:
    """Parse a line after the first. Raises ValueError if it is neither a frame nor a problem."""
    if "problem" in line:
        return RenderProblem.model_validate(line)
    return RenderedFrame.model_validate({**line, "png": base64.b64decode(line["png"], validate=True)})
