"""The environment, read once, frozen. Every setting stands in the README; a test holds the two together."""

from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MOST_LANES: Final = 100


class StoreSettings(BaseSettings):
    """Where things lie: all that a command needs to know which looks after them."""

    model_config = SettingsConfigDict(env_prefix="MOMALISA_", frozen=True)

    bucket: str = Field(
        "bucket", description="Where frames and films lie: a folder, or gs://NAME/PREFIX in Google Cloud Storage."
    )
    database_url: str = Field(
        "sqlite:///bucket/catalogue.sqlite",
        description="The catalogue: sqlite:///FILE, or postgresql://USER@HOST/NAME.",
    )

    @field_validator("bucket")
    @classmethod
    def _is_a_place(cls, value: str) -> str:
        scheme, separator, rest = value.partition("://")
        if not value or (separator and (scheme != "gs" or not rest.partition("/")[0])):
            raise ValueError(f"{value!r} is neither a folder nor gs://NAME/PREFIX")
        return value


class Settings(StoreSettings):
    """What an operator can set. Names are prefixed MOMALISA_ in the environment."""

    host: str = Field("127.0.0.1", description="Address the api listens on.")
    port: int = Field(8000, description="Port the api listens on.", ge=0, le=65535)
    gallery: Path | None = Field(None, description="Folder of the built gallery, to serve it too. Unset: none.")
    trusted_proxies: str = Field(
        "127.0.0.1,::1",
        description="Addresses and networks whose X-Forwarded-Proto and -For count, separated by commas.",
    )
    role: Literal["all", "web", "worker"] = Field(
        "all", description="What this process does: web answers visitors, worker renders and films, all does both."
    )
    lease_s: float = Field(10.0, description="Seconds of silence after which a worker's shards go to another.", ge=1)
    reconcile_s: float = Field(15.0, description="Seconds between two looks for jobs that the queue has lost.", gt=0)
    watch_s: float = Field(
        0.2,
        description="Seconds between two looks for what watchers want to see; at least 1 where PostgreSQL tells of it.",
        gt=0,
    )
    model_card: Path = Field(description="The model card file that the replicas were given too.")
    replicas: str = Field(
        "http://127.0.0.1:8101 http://127.0.0.1:8102",
        description="Replicas' addresses, separated by spaces; dns+http://NAME:PORT is every address of a name; "
        "vertex+https://HOST/v1/projects/P/locations/L/endpoints/E#4 an endpoint of Vertex AI, 4 calls at a time.",
    )
    refresh_s: float = Field(2.0, description="Seconds between two looks at which replicas are awake.", gt=0)
    shard_timeout_s: float = Field(
        300.0, description="Seconds a replica may be silent before its frames go elsewhere.", gt=0
    )
    shard_tries: int = Field(5, description="Tries at a shard that may fail before its walk fails.", ge=1)
    backup_shards: bool = Field(
        True, description="Whether an idle replica renders a late shard a second time; the first frames win."
    )
    shards_in_hand: int = Field(32, description="Shards that a worker has on their way at a time.", ge=2)
    blocklist: Path | None = Field(None, description="File of words that no prompt may hold, one a line. Unset: none.")
    max_waiting: int = Field(1000, description="Walks that may wait in line before new ones are told 503.", ge=1)
    max_walks_per_owner: int = Field(50, description="Walks of one owner that may be on their way.", ge=1)
    frames_per_owner_per_day: int = Field(20_000, description="Frames that one owner may ask for in 24 hours.", ge=2)
    max_frames: int = Field(241, description="Frames a walk may have.", ge=2)
    max_stops: int = Field(8, description="Stops a walk may have.", ge=2)
    max_prompt_chars: int = Field(1000, description="Characters a prompt may have; replicas take 1000.", ge=1, le=1000)
    max_body_bytes: int = Field(262_144, description="Bytes a request body may have.", ge=1024)
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="How the log is written; auto is console on a terminal and json elsewhere."
    )

    log_level: Literal["debug", "info", "warning"] = Field("info", description="The least that is logged.")

    @model_validator(mode="after")
    def _roles_share_a_database(self) -> Self:
        if self.role != "all" and self.database_url.startswith("sqlite"):
            raise ValueError(
                f"{self.role} alone needs MOMALISA_DATABASE_URL on PostgreSQL, which other processes see too"
            )
        return self

    @field_validator("replicas")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        for address in value.split():
            parts = urlsplit(address.removeprefix("dns+").removeprefix("vertex+"))
            try:
                fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
                fits = fits and (not parts.fragment or 1 <= int(parts.fragment) <= MOST_LANES)
            except ValueError:
                fits = False
            if not fits:
                raise ValueError(f"{address!r} is no address of a replica; write http://127.0.0.1:8101 for example")
        if not value.split():
            raise ValueError("name at least one replica, for example http://127.0.0.1:8101")
        return value
