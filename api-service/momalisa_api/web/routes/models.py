"""The models of the deployment: what they are, their limits, and whether replicas of them are awake."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from momalisa_api.problems import CatalogueUnavailable, Starting
from momalisa_api.store.workers import FleetStatuses, WorkerRegistry
from momalisa_api.walks.common_spec import Effort
from momalisa_api.walks.kinds import WalkKind
from momalisa_api.walks.model_card import ModelCard, Style
from momalisa_api.walks.models import RegisteredModel
from momalisa_api.web.problem_json import documented
from momalisa_api.web.routes.deps import ModelsDep, SettingsDep, WorkersDep

router = APIRouter(tags=["models"])
EFFORT = "The effort for even walks whose request does not say it."


class ReplicasResource(BaseModel):
    """The replicas of a model."""

    awake: int | None = Field(
        description="Number of replicas that can render; null while the walk database is unavailable."
    )


class ModelResource(BaseModel):
    """The default model of this deployment and its replicas."""

    card: ModelCard = Field(description="The model card.")
    effort: Effort = Field(description=EFFORT)
    replicas: ReplicasResource = Field(description="The replicas that render with the model.")


class OfferedModel(BaseModel):
    """A model that walks can use."""

    name: str = Field(description="The model's name, for `model` in a request.")
    default: bool = Field(description="Whether requests that name no model get this one.")
    license: str = Field(description="The licence of the weights; empty if it is not known.")
    commercial: bool | None = Field(description="Whether the licence allows commercial use; null if that is not known.")
    card: ModelCard = Field(description="The model card, with the limits of its walks.")
    kinds: list[WalkKind] = Field(
        description="The kinds of walks that it renders; those beside `between` are known once a replica has started."
    )
    engine: str = Field(description="What renders frames with it: diffusion, parallax, style or instances.")
    styles: list[Style] = Field(description="The styles that requests can name; empty if it has none.")
    pictures: bool = Field(description="Whether stops can be pictures; false until a replica of it has started.")
    replicas: ReplicasResource = Field(description="The replicas that render with the model.")
    frame_seconds: float | None = Field(
        description="Seconds that a replica takes for a frame, as last measured; null before the first walk."
    )


class ModelsResource(BaseModel):
    """The models of this deployment, the default first."""

    models: list[OfferedModel] = Field(description="The models that new walks can use.")
    effort: Effort = Field(description=EFFORT)


@router.get("/models", summary="List the models", responses=documented(CatalogueUnavailable))
async def list_models(models: ModelsDep, settings: SettingsDep, workers: WorkersDep) -> ModelsResource:
    """List the models that walks can use. Empty until the first replica has started."""
    fleet = await _fleet(workers)
    return ModelsResource(
        models=[_offered(model, default=model == models.default, fleet=fleet) for model in models.offered],
        effort=settings.effort,
    )


@router.get("/model", summary="Get the default model", responses=documented(Starting, CatalogueUnavailable))
async def get_model(models: ModelsDep, settings: SettingsDep, workers: WorkersDep) -> ModelResource:
    """Get the card of the default model: what it is, what it paints well, and its limits."""
    model = models.choose()
    return ModelResource(card=model.card, effort=settings.effort, replicas=_replicas(model.name, await _fleet(workers)))


async def _fleet(workers: WorkerRegistry) -> FleetStatuses | None:
    try:
        return await workers.fleet_status()
    except CatalogueUnavailable:
        return None


def _replicas(name: str, fleet: FleetStatuses | None) -> ReplicasResource:
    return ReplicasResource(awake=None if fleet is None else fleet.of(name).awake)


def _offered(model: RegisteredModel, *, default: bool, fleet: FleetStatuses | None) -> OfferedModel:
    shard_s = (fleet.of(model.name).shard_s if fleet else None) or model.shard_s
    return OfferedModel(
        name=model.name,
        default=default,
        license=model.card.about.license,
        commercial=model.card.about.commercial,
        card=model.card,
        kinds=list(model.kinds),
        engine=model.card.engine,
        styles=list(model.card.styles),
        pictures=bool(model.pictures),
        replicas=_replicas(model.name, fleet),
        frame_seconds=None if shard_s is None else round(shard_s / model.card.micro_batch, 3),
    )
