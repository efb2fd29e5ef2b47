"""The settings of sign-in: which identity provider, and which proxy, the API trusts. settings.py has all others."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from momalisa_api.loopback import is_loopback

# Headers in which proxies name users. frontend/nginx.conf removes exactly these from requests of others.
USER_HEADERS: Final = ("X-Forwarded-User", "X-Auth-Request-User", "Remote-User")
EMAIL_HEADERS: Final = ("X-Forwarded-Email", "X-Auth-Request-Email", "Remote-Email")
# The longest time that a secret for sessions is kept: store/session_secrets.py.
MAX_SESSION_H: Final = 720
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,64}")

_Network = IPv4Network | IPv6Network


class SignInSettings(BaseSettings):
    """Whether visitors can or must sign in, and where."""

    model_config = SettingsConfigDict(env_prefix="MOMALISA_", env_ignore_empty=True, frozen=True)

    sign_in: Literal["off", "optional", "required"] = Field(
        "off",
        description="Sign-in of visitors: off, optional, or required to start walks and to upload; API keys work, too.",
    )
    sign_in_issuers: str | None = Field(
        None,
        description="Issuers (OpenID Connect) whose ID tokens are accepted, as URLs separated by spaces. The gallery "
        "signs visitors in at the first.",
    )
    sign_in_client_id: str | None = Field(
        None, description="Client ID of the gallery at the first issuer. Unset: only tokens and proxies sign in."
    )
    sign_in_client_secret: SecretStr | None = Field(
        None, description="Client secret of the gallery. Unset: that of the file, or a public client."
    )
    sign_in_client_secret_file: Path | None = Field(
        None, description="File with the client secret of the gallery. Unset or empty: none."
    )
    sign_in_audiences: str | None = Field(
        None, description="Audiences of accepted ID tokens, separated by spaces. Unset: the client ID."
    )
    sign_in_scopes: str = Field(
        "openid email profile", description="Scopes that the gallery requests, separated by spaces."
    )
    sign_in_session_h: float = Field(
        168.0, description="Time after which a visitor has to sign in again, in hours.", gt=0, le=MAX_SESSION_H
    )
    sign_in_jwks_url: str | None = Field(
        None, description="URL of the first issuer's keys, if it has no discovery document. Unset: from discovery."
    )
    sign_in_token_header: str | None = Field(
        None, description="Header in which a proxy sends a signed ID token, such as X-Goog-IAP-JWT-Assertion."
    )
    sign_in_proxies: str | None = Field(
        None,
        description="Addresses and networks, separated by commas, of the proxies that name the user in a header: the "
        "peers that connect to the API, not those in X-Forwarded-For. Unset: no such header counts.",
    )
    sign_in_user_header: Literal["X-Forwarded-User", "X-Auth-Request-User", "Remote-User"] = Field(
        "X-Forwarded-User", description="Header in which those proxies send the user's id."
    )
    sign_in_email_header: Literal["X-Forwarded-Email", "X-Auth-Request-Email", "Remote-Email"] = Field(
        "X-Forwarded-Email", description="Header in which those proxies send the user's e-mail address."
    )

    @property
    def named_issuers(self) -> tuple[str, ...]:
        """The issuers' URLs, exactly as their tokens name them."""
        return tuple((self.sign_in_issuers or "").split())

    @property
    def named_audiences(self) -> frozenset[str]:
        """The audiences of accepted ID tokens."""
        return frozenset((self.sign_in_audiences or self.sign_in_client_id or "").split())

    @property
    def named_proxies(self) -> tuple[_Network, ...]:
        """The networks of proxies that name users."""
        return tuple(ip_network(each.strip()) for each in (self.sign_in_proxies or "").split(",") if each.strip())

    def read_client_secret(self) -> str | None:
        """The client secret, if there is one. Raises SystemExit, with what to do, if its file cannot be read."""
        if self.sign_in_client_secret:
            return self.sign_in_client_secret.get_secret_value()
        if not (path := self.sign_in_client_secret_file):
            return None
        try:
            return path.read_text().strip() or None
        except (OSError, UnicodeError) as error:
            raise SystemExit(f"MOMALISA_SIGN_IN_CLIENT_SECRET_FILE cannot be read: {error}") from error

    @field_validator("sign_in_issuers", "sign_in_jwks_url")
    @classmethod
    def _are_secure(cls, value: str | None) -> str | None:
        for url in (value or "").split():
            parts = urlsplit(url)
            secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(url))
            if not secure or not parts.hostname or parts.query or parts.fragment:
                raise ValueError(f"{url!r} is not valid; use https://HOST or https://HOST/PATH")
        return value

    @field_validator("sign_in_scopes")
    @classmethod
    def _has_openid(cls, value: str) -> str:
        if "openid" not in value.split():
            raise ValueError("must contain openid")
        return value

    @field_validator("sign_in_token_header")
    @classmethod
    def _is_a_header(cls, value: str | None) -> str | None:
        if value is not None and not _HEADER.fullmatch(value):
            raise ValueError(f"{value!r} is not the name of a header")
        return value

    @field_validator("sign_in_proxies")
    @classmethod
    def _are_networks(cls, value: str | None) -> str | None:
        for each in (value or "").split(","):
            if each.strip() and ip_network(each.strip()).prefixlen == 0:
                raise ValueError("must not name all addresses: anybody could sign in as anybody")
        return value

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.sign_in == "off":
            return self
        if not (self.named_issuers or self.named_proxies):
            raise ValueError(f"{self.sign_in} requires MOMALISA_SIGN_IN_ISSUERS or MOMALISA_SIGN_IN_PROXIES")
        if self.named_issuers and not self.named_audiences:
            raise ValueError("an issuer requires MOMALISA_SIGN_IN_CLIENT_ID or MOMALISA_SIGN_IN_AUDIENCES")
        return self
