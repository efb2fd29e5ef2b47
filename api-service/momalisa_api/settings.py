"""Settings from environment variables, read once. docs/configuration.md lists them all, and a test compares the two."""

import re
from email.utils import parseaddr
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from momalisa_api.database_url import connect_arguments
from momalisa_api.sign_in_settings import SignInSettings
from momalisa_api.text import is_host, is_mail_address

MAX_PARALLEL_CALLS: Final = 100
DAY_S: Final = 86_400
MAX_DAYS: Final = 36_500.0
_MAX_PORT: Final = 65_535
SQLITE_FILE: Final = re.compile(r"sqlite:///[^?]+")
POSTGRES: Final = ("postgresql://", "postgres://")


class StoreSettings(BaseSettings):
    """Where images and walks are stored: all the settings that an operator's command needs."""

    model_config = SettingsConfigDict(env_prefix="MOMALISA_", env_ignore_empty=True, frozen=True)

    bucket: str = Field(
        "bucket", description="Storage for frames and films: a folder, or gs://NAME/PREFIX for Google Cloud Storage."
    )
    database_url: str = Field(
        "sqlite:///bucket/catalogue.sqlite",
        description="Database of the catalogue: sqlite:///FILE, or postgresql://USER@HOST/NAME.",
    )

    model_card: Path | None = Field(
        None,
        description="Path of a model card file: replicas of its model must have the same card. Unset: replicas bring "
        "their cards.",
    )
    models: str | None = Field(
        None,
        description="Names of the models that are allowed, separated by spaces or commas; * stands for all that the "
        "replicas bring. Unset: *, or the model of the card file alone if there is one.",
    )

    @field_validator("bucket")
    @classmethod
    def _is_a_place(cls, value: str) -> str:
        scheme, separator, rest = value.partition("://")
        if not value or (separator and (scheme != "gs" or not rest.partition("/")[0])):
            raise ValueError(f"{value!r} is not valid; use a folder or gs://NAME/PREFIX")
        return value

    @field_validator("database_url")
    @classmethod
    def _is_a_database(cls, value: str) -> str:
        # No message contains the value, which may contain a password.
        if value.startswith(POSTGRES):
            connect_arguments(value)
        elif not SQLITE_FILE.fullmatch(value):
            raise ValueError("must be sqlite:///FILE or postgresql://USER@HOST/NAME")
        return value

    @property
    def named_models(self) -> tuple[str, ...] | None:
        """The allowed models; None if they are not set."""
        return tuple(self.models.replace(",", " ").split()) if self.models is not None else None

    @field_validator("models")
    @classmethod
    def _names_models(cls, value: str | None) -> str | None:
        if value is not None and not value.replace(",", " ").split():
            raise ValueError("must name at least one model, or *")
        return value


class Settings(SignInSettings, StoreSettings):
    """All settings of the API service. Their environment variables start with MOMALISA_."""

    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8000, description="TCP port that the API listens on.", ge=0, le=65535)
    gallery: Path | None = Field(
        None, description="Folder of the built gallery, to serve it from this process. Unset: no gallery."
    )
    trusted_proxies: str = Field(
        "127.0.0.1,::1",
        description="Addresses and networks (comma-separated) whose X-Forwarded-Proto and -For headers are trusted.",
    )
    role: Literal["all", "web", "worker"] = Field(
        "all",
        description="What this process does: web serves requests, worker renders frames and films, all does both.",
    )
    lease_s: float = Field(
        10.0,
        description="Time without a heartbeat after which a worker's shards go to another worker, in seconds.",
        ge=1,
        le=DAY_S,
    )
    reconcile_s: float = Field(
        15.0,
        description="Interval between searches for walks whose jobs are missing from the queue, in seconds.",
        gt=0,
        le=DAY_S,
    )
    live_poll_s: float = Field(
        0.2,
        description="Poll interval for live updates and for cancelled walks, in seconds; at least 1 on PostgreSQL, "
        "which sends notifications.",
        gt=0,
        le=DAY_S,
    )
    replicas: str = Field(
        "http://127.0.0.1:8101 http://127.0.0.1:8102",
        description="Addresses of the replicas, separated by spaces. dns+http://NAME:PORT stands for every address of "
        "a DNS name, vertex+https://HOST/v1/projects/P/locations/L/endpoints/E#4 for a Vertex AI endpoint with 4 "
        "parallel calls.",
    )
    refresh_s: float = Field(
        2.0, description="Interval between health checks of the replicas, in seconds.", gt=0, le=DAY_S
    )
    shard_timeout_s: float = Field(
        300.0,
        description="Time without data from a replica after which its frames go to another replica, in seconds.",
        gt=0,
        le=DAY_S,
    )
    shard_tries: int = Field(5, description="Failed attempts at a shard after which its walk fails.", ge=1)
    backup_shards: bool = Field(
        True,
        description="Whether idle replicas also render shards that are late; the frames that arrive first are used.",
    )
    max_shards_in_flight: int = Field(
        128,
        description="Maximum shards of a model that a worker processes at a time: waiting, rendered or being stored.",
        ge=2,
    )
    blocklist: Path | None = Field(
        None, description="File of words that prompts must not contain, one per line. Unset: no blocklist."
    )
    max_queued_walks: int = Field(
        1000,
        description="Maximum queued walks; further requests get 503. One owner gets at most a quarter of the queue, "
        "and one network half of it; further requests get 429.",
        ge=1,
    )
    max_walks_per_owner: int = Field(
        50, description="Maximum unfinished walks per owner; further requests get 429.", ge=1
    )
    frames_per_owner_per_day: int = Field(
        20_000,
        description="Maximum frames that the requests of one owner in 24 hours may render; further requests get 429.",
        ge=2,
    )
    owners_per_network: int = Field(
        5,
        description="Limits of all owners at one IPv4 address or IPv6 /64 together, as a multiple of those of one "
        "owner. Callers with an API key have only their own.",
        ge=1,
    )
    frames_per_day: int | None = Field(
        None,
        description="Maximum frames that all requests in 24 hours may render; further requests get 503. One owner gets "
        "at most a quarter of them, and one network half of them. Unset: no maximum.",
        ge=2,
    )
    open_get: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether GET /walk starts walks for callers without an API key, a cookie or fetch metadata of this "
        "site: on for all, off for none, auto for programs on this machine. Other sites' pages are such callers.",
    )
    max_frames: int = Field(241, description="Maximum frames per walk.", ge=2)
    max_clip_frames: int = Field(
        900,
        description="Maximum frames of a walk along a clip; of a clip with more, every second frame is used, or fewer.",
        ge=2,
    )
    max_stops: int = Field(8, description="Maximum stops per walk.", ge=2)
    effort: Literal["fast", "balanced", "best"] = Field(
        "balanced", description="How much is rendered to make an even walk more even, if a request does not say it."
    )
    max_prompt_chars: int = Field(
        1000, description="Maximum characters per prompt; replicas accept up to 1000.", ge=1, le=1000
    )
    max_body_bytes: int = Field(262_144, description="Maximum size of a request body, in bytes.", ge=1024)
    keep_uploads_h: float = Field(
        24.0,
        description="Time after which an uploaded picture or clip is deleted unless a walk uses it, in hours.",
        gt=0,
        le=24 * 366,
    )
    keep_walks_days: float | None = Field(
        None,
        description="Time after the end of a walk after which it is deleted, with its prompts, in days. Unset: never.",
        gt=0,
        le=MAX_DAYS,
    )
    keep_frames_days: float | None = Field(
        None,
        description="Time after the end of a walk after which its frames are deleted, in days. Unset: never.",
        gt=0,
        le=MAX_DAYS,
    )
    keep_films_days: float | None = Field(
        None,
        description="Time after the end of a walk after which its films are deleted, in days. Unset: never.",
        gt=0,
        le=MAX_DAYS,
    )
    uploads_per_owner_per_day: int = Field(
        200, description="Maximum uploads per owner in 24 hours; further ones get 429.", ge=1
    )
    upload_mb_per_owner_per_day: int = Field(
        1000, description="Maximum megabytes that one owner may upload in 24 hours; further uploads get 429.", ge=1
    )
    fetch_ports: str = Field(
        "80 443",
        description="TCP ports of the URLs that uploads are fetched from, separated by spaces or commas; none fetches "
        "nothing.",
    )
    c2pa_key: Path | None = Field(
        None, description="PEM file of the private key that signs films (C2PA). Unset: films are not signed."
    )
    c2pa_certificate: Path | None = Field(
        None, description="PEM file of the certificate for MOMALISA_C2PA_KEY, followed by those that issued it."
    )
    public_url: str | None = Field(
        None,
        description="URL at which visitors reach this deployment, for links in mails and webhooks, and for the return "
        "from sign-in. Unset: sign-in takes it from the request.",
    )
    smtp_host: str | None = Field(
        None, description="Host of the SMTP server for mails to visitors. Unset: no mail is sent."
    )
    smtp_port: int = Field(587, description="TCP port of the SMTP server.", ge=1, le=65535)
    smtp_tls: Literal["starttls", "tls", "none"] = Field(
        "starttls",
        description="Encryption of the SMTP connection: starttls (required, not optional), tls from the first byte, or "
        "none.",
    )
    smtp_user: str | None = Field(None, description="User name at the SMTP server. Unset: no login.")
    smtp_password_file: Path | None = Field(None, description="File with the password at the SMTP server.")
    smtp_from: str | None = Field(
        None, description="Sender of the mails: an address, or NAME <ADDRESS>. Required if there is an SMTP server."
    )
    webhook_ports: str = Field(
        "80 443",
        description="TCP ports of the URLs that webhooks may have, separated by spaces or commas; none allows no "
        "webhooks.",
    )
    notices_per_owner_per_day: int = Field(
        100,
        description="Maximum mails and webhooks that one owner may request in 24 hours; further requests get 429.",
        ge=1,
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="Log format; auto is console on a terminal, json otherwise."
    )

    log_level: Literal["debug", "info", "warning"] = Field("info", description="Lowest level that is logged.")

    @model_validator(mode="after")
    def _roles_share_a_database(self) -> Self:
        if self.role != "all" and self.database_url.startswith("sqlite"):
            raise ValueError(
                f"{self.role} requires MOMALISA_DATABASE_URL to be a PostgreSQL database, shared with other processes"
            )
        return self

    @model_validator(mode="after")
    def _keys_have_certificates(self) -> Self:
        if (self.c2pa_key is None) is not (self.c2pa_certificate is None):
            raise ValueError("MOMALISA_C2PA_KEY and MOMALISA_C2PA_CERTIFICATE must be set together")
        return self

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, value: str) -> str:
        if not is_host(value):
            raise ValueError("is not a host name or an address")
        return value

    @model_validator(mode="after")
    def _mail_is_complete(self) -> Self:
        if self.smtp_host and not (self.smtp_from and self.public_url):
            raise ValueError("MOMALISA_SMTP_HOST requires MOMALISA_SMTP_FROM and MOMALISA_PUBLIC_URL")
        if bool(self.smtp_user) != bool(self.smtp_password_file):
            raise ValueError("MOMALISA_SMTP_USER and MOMALISA_SMTP_PASSWORD_FILE require each other")
        return self

    @field_validator("public_url")
    @classmethod
    def _is_a_base_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{value!r} is not valid; use https://HOST")
        return value.rstrip("/")

    @field_validator("smtp_from")
    @classmethod
    def _is_a_sender(cls, value: str | None) -> str | None:
        if value is not None and not (value.isprintable() and is_mail_address(parseaddr(value)[1])):
            raise ValueError("must be an address, such as walks@example.com, or NAME <ADDRESS>")
        return value

    @property
    def sends_mail(self) -> bool:
        """Whether there is a server for mails to visitors."""
        return self.smtp_host is not None

    @property
    def named_fetch_ports(self) -> frozenset[int]:
        """The ports that URLs of pictures may have; empty if none are fetched."""
        return _ports(self.fetch_ports)

    @property
    def named_webhook_ports(self) -> frozenset[int]:
        """The ports that URLs of webhooks may have; empty if there are none."""
        return _ports(self.webhook_ports)

    @field_validator("fetch_ports", "webhook_ports")
    @classmethod
    def _are_ports(cls, value: str) -> str:
        named = value.replace(",", " ").split()
        if named != ["none"] and not (named and all(port.isdecimal() and 0 < int(port) <= _MAX_PORT for port in named)):
            raise ValueError("must be TCP ports, such as 80 443, or none")
        return value

    @field_validator("replicas")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        for address in value.split():
            parts = urlsplit(address.removeprefix("dns+").removeprefix("vertex+"))
            try:
                fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
                fits = fits and (not parts.fragment or 1 <= int(parts.fragment) <= MAX_PARALLEL_CALLS)
            except ValueError:
                fits = False
            if not fits:
                raise ValueError(f"{address!r} is not a replica address; use http://127.0.0.1:8101, for example")
        if not value.split():
            raise ValueError("requires at least one replica address, for example http://127.0.0.1:8101")
        return value


def _ports(named: str) -> frozenset[int]:
    ports = named.replace(",", " ").split()
    return frozenset() if ports == ["none"] else frozenset(map(int, ports))
