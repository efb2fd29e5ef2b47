"""An OpenID Connect issuer: its discovery document and its keys, fetched over HTTP and kept for a while."""

import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import jwt

from momalisa_api.concurrency import SingleFlight
from momalisa_api.loopback import is_loopback
from momalisa_api.outages import Outage
from momalisa_api.problems import SignInUnavailable

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
ISSUER_TIMEOUT_S: Final = 10.0
# Documents are fetched again after some minutes. If that fails, they are used for an hour.
FRESH_S: Final = 600.0
USABLE_S: Final = 3600.0
# Between two attempts that failed, and between two fetches because of a key that is not known.
REFETCH_S: Final = 30.0


@dataclass
class _Kept:
    """A document, when it was fetched, and the earliest time of the next fetch."""

    document: dict[str, Any] | None = None
    fetched_at: float = 0.0
    next_try: float = 0.0

    def usable_for(self, seconds: float) -> bool:
        return self.document is not None and time.monotonic() < self.fetched_at + seconds


class Issuer:
    """One issuer. Everything raises SignInUnavailable if it does not answer and nothing usable is known."""

    def __init__(self, url: str, client: httpx.AsyncClient, jwks_url: str | None = None) -> None:
        """url: exactly as tokens name it; jwks_url: where its keys are, if it has no discovery document."""
        self.url = url
        self._client = client
        self._jwks_url = jwks_url
        self._discovery = _Kept()
        self._jwks = _Kept()
        self._next_for_unknown = 0.0
        self._flight = SingleFlight[None]()
        self._outage = Outage(f"identity provider {urlsplit(url).hostname}")

    async def endpoints(self) -> dict[str, Any]:
        """The discovery document. Its issuer is this one, and its endpoints are reached over TLS."""
        return await self._current(self._discovery, f"{self.url.rstrip('/')}/.well-known/openid-configuration")

    async def key(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key that verifies a token; None if the issuer has no such key.

        A key that is not known may be new, so the keys are fetched again: once in a while, as anybody can send tokens
        with invented keys.
        """
        keys = await self._keys()
        found = _find(keys, kid, algorithm)
        if not found and time.monotonic() >= self._next_for_unknown:
            self._next_for_unknown = time.monotonic() + REFETCH_S
            self._jwks.fetched_at = min(self._jwks.fetched_at, time.monotonic() - FRESH_S)
            self._jwks.next_try = 0.0
            found = _find(await self._keys(), kid, algorithm)
        return found

    async def _keys(self) -> dict[str, Any]:
        url = self._jwks_url or (await self.endpoints())["jwks_uri"]
        return await self._current(self._jwks, url)

    async def _current(self, kept: _Kept, url: str) -> dict[str, Any]:
        """A document from memory, or fetched again if it is old. Calls at the same time share one fetch."""
        if not kept.usable_for(FRESH_S) and time.monotonic() >= kept.next_try:
            await self._flight.do(url, lambda: self._fetch(kept, url))
        if not kept.usable_for(USABLE_S):
            raise SignInUnavailable(
                f"The identity provider {urlsplit(self.url).hostname} is not responding. Retry in a minute; "
                "API keys work meanwhile."
            )
        assert kept.document is not None
        return kept.document

    async def _fetch(self, kept: _Kept, url: str) -> None:
        kept.next_try = time.monotonic() + REFETCH_S
        try:
            answer = await self._client.get(url, headers={"Accept": "application/json"})
            answer.raise_for_status()
            document = answer.json()
            self._check(document, kept)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            self._outage.missed(error)
            return
        self._outage.answered()
        kept.document, kept.fetched_at = document, time.monotonic()

    def _check(self, document: Any, kept: _Kept) -> None:
        """Raises ValueError for a document that cannot be used."""
        if not isinstance(document, dict):
            raise ValueError("the document is no JSON object")
        if kept is self._jwks:
            if not isinstance(document.get("keys"), list):
                raise ValueError("the document has no list of keys")
            return
        if document.get("issuer") != self.url:
            raise ValueError(f"the discovery document is of {document.get('issuer')}; set this as the issuer")
        for name in ("jwks_uri", "authorization_endpoint", "token_endpoint", "userinfo_endpoint"):
            endpoint = document.get(name)
            if endpoint is not None and not (str(endpoint).startswith("https://") or is_loopback(str(endpoint))):
                raise ValueError(f"{name} is not an https address")
        if "jwks_uri" not in document:
            raise ValueError("the discovery document has no jwks_uri")


def _find(keys: dict[str, Any], kid: str | None, algorithm: str) -> jwt.PyJWK | None:
    """The one key of a set that fits a token. Keys of other kinds, and keys for encryption, are left out."""
    fitting = []
    for data in keys["keys"]:
        if not isinstance(data, dict) or data.get("use", "sig") != "sig" or (kid and data.get("kid") != kid):
            continue
        try:
            key = jwt.PyJWK.from_dict(data)
        except jwt.PyJWTError:
            continue
        if key.algorithm_name == algorithm:
            fitting.append(key)
    return fitting[0] if len(fitting) == 1 else None
