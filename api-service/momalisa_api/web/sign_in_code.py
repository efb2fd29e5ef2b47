"""Authorization code flow with PKCE (RFC 6749, RFC 7636): how the gallery signs a visitor in at the first issuer."""

import base64
import hashlib
import hmac
import secrets as dice
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import httpx

from momalisa_api.problems import SignInFailed, SignInUnavailable, TokenRefused
from momalisa_api.web.identity import Identity, identity_of
from momalisa_api.web.sign_in_issuer import Issuer
from momalisa_api.web.sign_in_sessions import Sessions
from momalisa_api.web.sign_in_tokens import IdTokens

_AGAIN: Final = "Sign in again."
_PERSON: Final = ("name", "preferred_username", "email", "email_verified")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The result of a sign-in. next: the local path to go on to; claim: whether to take over what the cookie owns."""

    identity: Identity | None
    next: str
    claim: bool


class CodeFlow:
    """Sends visitors to the provider, and takes them back. Everything raises SignInUnavailable."""

    def __init__(
        self,
        issuer: Issuer,
        client: httpx.AsyncClient,
        tokens: IdTokens,
        sessions: Sessions,
        client_id: str,
        client_secret: str | None,
        scopes: str,
    ) -> None:
        self._issuer = issuer
        self._client = client
        self._tokens = tokens
        self._sessions = sessions
        self._client_id = client_id
        self._client_secret = client_secret
        self._scopes = scopes

    async def begin(self, redirect_uri: str, next: str, claim: bool) -> tuple[str, str]:
        """The provider's URL to redirect to, and the cookie to set."""
        verifier, state, nonce = (dice.token_urlsafe(32) for _ in range(3))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": self._scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = await self._endpoint("authorization_endpoint")
        kept = {"state": state, "nonce": nonce, "verifier": verifier, "next": next, "claim": claim}
        separator = "&" if urlsplit(endpoint).query else "?"
        return endpoint + separator + urlencode(query), await self._sessions.begin(kept)

    async def finish(self, cookie: str | None, answer: Mapping[str, str], redirect_uri: str) -> SignedIn:
        """What the provider's answer, the query of the callback, means. Its identity is None if the visitor refused.

        Raises SignInFailed if the answer is not for this browser, or is used again.
        """
        kept = await self._sessions.resume(cookie) if cookie else None
        if not kept or not hmac.compare_digest(kept["state"].encode(), answer.get("state", "").encode()):
            raise SignInFailed(f"This sign-in did not begin in this browser, or took too long. {_AGAIN}")
        # Answers of other issuers must not be mixed up with this one's (RFC 9207).
        if answer.get("iss", self._issuer.url) != self._issuer.url:
            raise SignInFailed(f"Another issuer has answered. {_AGAIN}")
        if answer.get("error") == "access_denied":
            return SignedIn(None, kept["next"], claim=False)
        if not (code := answer.get("code")):
            raise SignInFailed(f"The identity provider could not sign you in. {_AGAIN}")
        tokens = await self._exchange(code, kept["verifier"], redirect_uri)
        return SignedIn(await self._identity(tokens, kept["nonce"]), kept["next"], kept["claim"])

    async def _identity(self, tokens: Mapping[str, Any], nonce: str) -> Identity:
        try:
            claims = await self._tokens.claims(str(tokens.get("id_token")), {self._client_id})
        except TokenRefused as error:
            raise SignInFailed(f"{error}") from error
        if claims["iss"] != self._issuer.url or not hmac.compare_digest(str(claims.get("nonce")), nonce):
            raise SignInFailed(f"The ID token belongs to another sign-in. {_AGAIN}")
        if "email" not in claims and (access_token := tokens.get("access_token")):
            claims |= await self._person(str(access_token), claims["sub"])
        return identity_of(claims)

    async def _exchange(self, code: str, verifier: str, redirect_uri: str) -> dict[str, Any]:
        """The tokens for a code. Raises SignInFailed if the provider refuses it: each is valid once."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": self._client_id,
        }
        methods = (await self._issuer.endpoints()).get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        authorization = None
        if self._client_secret and "client_secret_basic" in methods:
            # Both are encoded first (RFC 6749, section 2.3.1).
            authorization = httpx.BasicAuth(quote(self._client_id, ""), quote(self._client_secret, ""))
        elif self._client_secret:
            form["client_secret"] = self._client_secret
        request = self._client.build_request("POST", await self._endpoint("token_endpoint"), data=form)
        return await self._answer(request, authorization)

    async def _person(self, access_token: str, subject: str) -> dict[str, Any]:
        """Name and e-mail address from the userinfo endpoint, for providers that leave them out of ID tokens."""
        if "userinfo_endpoint" not in await self._issuer.endpoints():
            return {}
        request = self._client.build_request(
            "GET", await self._endpoint("userinfo_endpoint"), headers={"Authorization": f"Bearer {access_token}"}
        )
        found = await self._answer(request)
        return {name: found[name] for name in _PERSON if name in found} if found.get("sub") == subject else {}

    async def _answer(self, request: httpx.Request, auth: httpx.BasicAuth | None = None) -> dict[str, Any]:
        """The JSON object that the provider answers with."""
        try:
            answer = await self._client.send(request, auth=auth)
            document = answer.json() if answer.is_success else None
        except (httpx.HTTPError, ValueError) as error:
            raise SignInUnavailable("The identity provider is not responding. Sign in again in a minute.") from error
        if answer.is_server_error:
            raise SignInUnavailable("The identity provider has a fault. Sign in again in a minute.")
        if not isinstance(document, dict):
            raise SignInFailed(f"The identity provider refused to complete the sign-in. {_AGAIN}")
        return document

    async def _endpoint(self, name: str) -> str:
        if not (endpoint := (await self._issuer.endpoints()).get(name)):
            raise SignInUnavailable(f"The identity provider has no {name}. Tell the operator.")
        return str(endpoint)
