"""What an operator can set, read once from the environment; not what a request can choose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from momalisa_model.sources import parse_source, parse_sources

# The embedded models by the names of their recipes, which are also their `model_id` there, and their folders.
# The folder for 128 pixels differs in its VAE alone.
EMBEDDED_FOLDERS: Mapping[str, str] = {
    "atelier": "weights",
    "atelier-128": "weights-128",
    "atelier-depth": "depth",
    "atelier-instances": "instances",
}


def embedded_model(name: str = "atelier") -> str:
    """The folder with the weights of an embedded model in this checkout or image."""
    return str(Path(__file__).resolve().parents[1] / "atelier" / EMBEDDED_FOLDERS[name])


class ModelSource(BaseModel):
    """One model of a replica: where its weights are, and how they are loaded."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, protected_namespaces=())

    model_id: str = Field(
        default_factory=embedded_model,
        validation_alias=AliasChoices("MOMALISA_MODEL_ID", "MODEL_ID"),
        description="A Hugging Face id (owner/name) or a folder in diffusers format; or a single .safetensors file, by "
        "its path or as owner/name/file.safetensors. Unset: MOMALISA_RECIPES, else the embedded models.",
    )
    model_revision: str | None = Field(
        default=None,
        validation_alias=AliasChoices("MOMALISA_MODEL_REVISION", "MODEL_REVISION"),
        description="A commit, branch or tag of the hub; for a folder or a file, the revision that it must have. "
        "Unset: any.",
    )
    # BaseModel has a model_config of its own.
    model_configuration: str | None = Field(
        default=None,
        validation_alias=AliasChoices("MOMALISA_MODEL_CONFIGURATION", "MODEL_CONFIG"),
        description="For a single file: the folder or hub id (owner/name or owner/name@revision) in diffusers format "
        "whose configurations and tokenizers are used.",
    )
    model_vae: str | None = Field(
        default=None,
        validation_alias=AliasChoices("MOMALISA_MODEL_VAE", "MODEL_VAE"),
        description="A VAE that replaces the model's own: a hub id (owner/name@revision) or a folder. Unset: its own.",
    )
    model_adapters: str | None = Field(
        default=None,
        validation_alias=AliasChoices("MOMALISA_MODEL_ADAPTERS", "MODEL_ADAPTERS"),
        description="LoRAs and textual inversions, comma-separated: files, folders or hub ids, such as "
        "owner/name@revision:0.8. Unset: none.",
    )
    model_card: Path | None = Field(
        default=None,
        description="File with fields of the model card that replace derived ones. Unset: card.json in the model's "
        "folder, if there is one.",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?)$",
        description="Device to render on: cpu, mps, cuda, or cuda:1 for the second GPU. auto uses cuda, else mps, else "
        "cpu.",
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto",
        description="Precision of the weights; auto is float32, and on cuda the half precision of the model's family.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="CPU threads of torch. Unset: the largest power of two that the cores allow.",
    )
    places: Literal["auto", "strict"] = Field(
        default="auto",
        description="strict: a replica is ready only if a frame's bits are the same at each place in the batch; auto: "
        "so on CPUs only, other devices report a difference.",
    )

    @property
    def name(self) -> str:
        """What messages call the model before it is loaded."""
        return self.model_id

    @property
    def engine(self) -> str:
        """What renders the model's frames: a key of ENGINES."""
        return "diffusion"

    @property
    def fill_model(self) -> str | None:
        """The diffusion model that paints what a camera uncovers, if a recipe names one: a folder or a hub id."""
        return None

    def require_fetched(self) -> None:
        """Raise DownloadFailed if the weights have to be fetched before a replica starts, and are not there."""

    @property
    def card_fields(self) -> Mapping[str, Any]:
        """Fields of the model's card that are known before it is loaded, beside those of the card file."""
        return {}


class Settings(ModelSource, BaseSettings):
    """The whole configuration of one replica. Every field is read from MOMALISA_<NAME>.

    The fields of ModelSource are for a replica without recipes. Raises pydantic.ValidationError if a value is out of
    range or has the wrong type.
    """

    model_config = SettingsConfigDict(
        env_prefix="MOMALISA_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        protected_namespaces=(),
    )

    recipes: str = Field(
        default="",
        description="Models of this replica, in place of MODEL_ID: names of model recipes or paths of their files, "
        "separated by spaces.",
    )
    weights: Path | None = Field(
        default=None,
        description="Folder into which `momalisa-model fetch` puts the recipes' models, and from which they are "
        "loaded. Unset: the hub's cache.",
    )
    queue_length: int = Field(
        default=2, ge=0, le=1000, description="Shards that may wait for the device; further requests get 503."
    )
    max_fractions: int = Field(default=256, ge=1, le=256, description="Maximum number of frames in one request.")
    max_body_bytes: int = Field(
        default=262_144,
        ge=1024,
        description="Maximum size of a request body beside pictures, in bytes; larger ones get 413.",
    )
    send_timeout_s: int = Field(
        default=60,
        ge=1,
        le=3600,
        description="Time a caller has to read the rest of a response once its frames are rendered, in seconds.",
    )
    shutdown_grace_s: int = Field(
        default=3, ge=0, le=600, description="Time a shard may continue after SIGTERM, in seconds."
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(
        default=8100,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("MOMALISA_PORT", "AIP_HTTP_PORT"),
        description="TCP port to listen on; 0 selects a free one.",
    )
    predict_route: str | None = Field(
        default=None,
        pattern="^/",
        validation_alias=AliasChoices("MOMALISA_PREDICT_ROUTE", "AIP_PREDICT_ROUTE"),
        description="Path of the predictions for Vertex AI and KServe V1. Unset: none.",
    )
    health_route: str | None = Field(
        default=None,
        pattern="^/",
        validation_alias=AliasChoices("MOMALISA_HEALTH_ROUTE", "AIP_HEALTH_ROUTE"),
        description="A second path of /readyz, for platforms that choose their own. Unset: none.",
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="Log format; auto is console on a terminal and json elsewhere."
    )

    @field_validator("model_vae")
    @classmethod
    def _is_one_source(cls, value: str | None) -> str | None:
        if value is not None and parse_source(value).weight is not None:
            raise ValueError("a VAE has no weight")
        return value

    @field_validator("model_adapters")
    @classmethod
    def _are_sources(cls, value: str | None) -> str | None:
        parse_sources(value or "")
        return value

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, value: str) -> str:
        try:
            value.encode("idna")
        except UnicodeError:
            raise ValueError("must be a host name or an address") from None
        return value
