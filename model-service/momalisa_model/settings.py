"""What an operator can set, read once from the environment; not what a request can ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def embedded_model() -> str:
    """The atelier's weights in this checkout: what is rendered with when nobody names a model."""
    return str(Path(__file__).resolve().parents[1] / "atelier" / "weights")


class Settings(BaseSettings):
    """The whole configuration of one replica. Every field is read from MOMALISA_<NAME>.

    Raises pydantic.ValidationError where a value is out of bounds or of the wrong kind.
    """

    model_config = SettingsConfigDict(
        env_prefix="MOMALISA_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        protected_namespaces=(),
    )

    model_id: str = Field(
        default_factory=embedded_model,
        validation_alias=AliasChoices("MOMALISA_MODEL_ID", "MODEL_ID"),
        description="A hub id (owner/name) or a folder in diffusers format; the atelier's weights when unset.",
    )
    model_revision: str | None = Field(
        default=None,
        validation_alias=AliasChoices("MOMALISA_MODEL_REVISION", "MODEL_REVISION"),
        description="A commit, branch or tag of the hub; for a folder the SHA-256 it must have. Unset: any.",
    )
    model_card: Path | None = Field(
        default=None,
        description="The card file both services are given. Unset: card.json in the model's folder, else derived.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="Where to render; auto takes cuda, then mps, then cpu."
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto", description="Precision of the weights; auto is float16 on cuda and float32 elsewhere."
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="CPU threads torch computes with; unset: a power of two, as the cores allow.",
    )
    queue_length: int = Field(
        default=2, ge=0, le=1000, description="Shards that may wait for the device before one more is told 503."
    )
    max_fractions: int = Field(default=256, ge=1, le=256, description="Frames one request may ask for.")
    max_body_bytes: int = Field(
        default=262_144, ge=1024, description="Bytes a request's body may have before it is told 413."
    )
    send_timeout_s: int = Field(
        default=60, ge=1, le=3600, description="Seconds a caller has to read what is left once its frames are rendered."
    )
    shutdown_grace_s: int = Field(
        default=3, ge=0, le=600, description="Seconds a shard may go on after SIGTERM before it is cut off."
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(
        default=8100,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("MOMALISA_PORT", "AIP_HTTP_PORT"),
        description="TCP port to listen on; 0 takes a free one.",
    )
    predict_route: str | None = Field(
        default=None,
        pattern="^/",
        validation_alias=AliasChoices("MOMALISA_PREDICT_ROUTE", "AIP_PREDICT_ROUTE"),
        description="Path that answers instances with predictions, for Vertex AI and KServe V1. Unset: none.",
    )
    health_route: str | None = Field(
        default=None,
        pattern="^/",
        validation_alias=AliasChoices("MOMALISA_HEALTH_ROUTE", "AIP_HEALTH_ROUTE"),
        description="Path that answers as /readyz does, for platforms that choose their own. Unset: none.",
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="How logs are written; auto is console on a terminal and json elsewhere."
    )
