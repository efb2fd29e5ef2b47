"""The API's half of the model contract (docs/model-contract.md). tests/contract compares both halves."""

import base64
import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from momalisa_api.walks.kinds import BETWEEN, DIFFUSION
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.models import ANY
from momalisa_api.walks.recipe import Recipe
from momalisa_api.walks.stops import CroppedPicture

RENDER_PATH = "/v1/render"
MODELS_PATH = "/v1/models"
# For replicas of the last release, which hold one model.
MODEL_PATH = "/v1/model"
READY_PATH = "/readyz"
# It becomes a part of a key in the bucket. An endpoint of Vertex AI tells none.
Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{0,64}$")]
# The pictures of a shard, as files of exactly its recipe's size: those of the recipe, and of a clip the frame for each
# fraction. The picture of a style is smaller.
Pictures = Mapping[CroppedPicture | float, bytes]
NO_PICTURES: Final[Pictures] = MappingProxyType({})
# It becomes a part of a key in the bucket.
ExtraName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,40}\.(png|json)$")]
# What only the api needs to know of a recipe.
_NOT_SENT: Final = frozenset({"scope", "clip", "every", "frames"})
_NAMING_PICTURES: Final = frozenset({"picture", "style_picture", "start_picture", "end_picture"})
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
        possible = recipe.kind != BETWEEN or self.card.engine == DIFFUSION
        return possible and recipe.features <= {*self.features}


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


class RenderedExtra(BaseModel):
    """A line before the first frame: a file that belongs to the recipe beside its frames."""

    name: ExtraName
    media_type: Literal["image/png", "application/json"]
    content: bytes


class RenderProblem(BaseModel):
    """The last line of an answer that ended early: a problem document."""

    problem: dict[str, Any]


def render_request(
    recipe: Recipe, fractions: list[float], pictures: Pictures = NO_PICTURES, *, extras: bool = False
) -> dict[str, Any]:
    """The body of a render request: the recipe with the names that diffusers uses, and its pictures by their SHA-256.

    extras: whether to send the files that belong to the recipe, too. Where a visitor's picture is stored, and which
    part of it this is, stays unknown to replicas; so does the clip.
    """
    names = {key: hashlib.sha256(file).hexdigest() for key, file in pictures.items()}
    request: dict[str, Any] = {"recipe": _recipe_body(recipe, names), "fractions": fractions}
    if pictures:
        request["pictures"] = {names[key]: base64.b64encode(file).decode() for key, file in pictures.items()}
    if recipe.clips:
        request["sources"] = [names[fraction] for fraction in fractions]
    return request | ({"extras": True} if extras else {})


def _recipe_body(recipe: Recipe, names: Mapping[CroppedPicture | float, str]) -> dict[str, Any]:
    """The recipe for a replica. Fields without a value are left out. names: of the pictures' files."""
    body = {name: value for name, value in recipe.content.items() if value is not None and name not in _NOT_SENT}
    if "steps" in body:
        body["num_inference_steps"] = body.pop("steps")
    for name in body.keys() & _NAMING_PICTURES:
        body[name] = names[getattr(recipe, name)]
    return body


def read_line(line: dict[str, Any]) -> RenderedFrame | RenderedExtra | RenderProblem:
    """Parse a line after the first. Raises ValueError if it is no frame, no extra and no problem."""
    if "problem" in line:
        return RenderProblem.model_validate(line)
    if "extra" in line:
        content = base64.b64decode(line["data"], validate=True)
        return RenderedExtra(name=line["extra"], media_type=line["media_type"], content=content)
    return RenderedFrame.model_validate({**line, "png": base64.b64decode(line["png"], validate=True)})
