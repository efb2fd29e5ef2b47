"""ID tokens as bearer tokens, of a real provider: which are accepted, and which never."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx
import pytest

from momalisa_api.problems import SignInUnavailable, TokenRefused
from momalisa_api.settings import Settings
from momalisa_api.web import sign_in_issuer
from momalisa_api.web.identity import user_of
from momalisa_api.web.sign_in_issuer import Issuer
from momalisa_api.web.sign_in_tokens import SKEW_S, IdTokens
from tests.support.factories import FakeFleet, running
from tests.support.oidc import Provider, with_sign_in

pytestmark = pytest.mark.anyio
APPS = ("gallery", "phone")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(verify=False) as found:
        yield found


@pytest.fixture
def tokens(provider: Provider, client: httpx.AsyncClient) -> IdTokens:
    return IdTokens([Issuer(provider.issuer, client)], APPS)


class FromNow(NamedTuple):
    """A time in a claim, relative to that of its use: tests are collected minutes before they run."""

    seconds: int


def claims_of(provider: Provider, **changes: Any) -> dict[str, Any]:
    """The claims of a good token, but for some changes; None leaves a claim out."""
    now = int(time.time())
    good = {"iss": provider.issuer, "aud": "gallery", "sub": "ada", "iat": now, "exp": now + 600, **changes}
    found = {name: now + value.seconds if isinstance(value, FromNow) else value for name, value in good.items()}
    return {name: value for name, value in found.items() if value is not None}


def unsigned(claims: dict[str, Any], **header: Any) -> str:
    """The part of a token that is signed."""
    parts = (json.dumps(part).encode() for part in ({"typ": "JWT", **header}, claims))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_token_of_each_algorithm_names_its_user(tokens: IdTokens, provider: Provider, algorithm: str):
    """Providers choose among these."""
    claims = claims_of(provider, name="Ada", email="ada@example.com", email_verified=True)
    found = await tokens.read(provider.sign(claims, algorithm))
    assert (found.owner, found.name, found.email) == (user_of(provider.issuer, "ada"), "Ada", "ada@example.com")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"exp": FromNow(-SKEW_S - 5)}, "expired"),
    "issued in the future": ({"iat": FromNow(3600)}, "future"),
    "not valid yet": ({"nbf": FromNow(3600)}, "future"),
    "for another application": ({"aud": "another"}, "another application"),
    "for no application": ({"aud": []}, "lacks a claim"),
    "for several, without a party": ({"aud": ["gallery", "another"]}, "issued to another"),
    "issued to another application": ({"azp": "another"}, "issued to another"),
    "of a foreign issuer": ({"iss": "https://accounts.google.com"}, "issuer is not known"),
    "of an issuer that only begins alike": ({"iss": "http://127.0.0.1"}, "issuer is not known"),
    "of no issuer": ({"iss": None}, "issuer is not known"),
    "of a list of issuers": ({"iss": ["a"]}, "issuer is not known"),
    "without an end": ({"exp": None}, "lacks a claim"),
    "without a time": ({"iat": None}, "lacks a claim"),
    "without a subject": ({"sub": None}, "lacks a claim"),
    "of an empty subject": ({"sub": ""}, "subject"),
    "of a long subject": ({"sub": "a" * 256}, "subject"),
    "of a number": ({"sub": 5}, "not valid"),
    "without an audience": ({"aud": None}, "lacks a claim"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_token_is_refused(tokens: IdTokens, provider: Provider, name: str):
    """Although the provider's own key has signed it."""
    changes, reason = REFUSED[name]
    with pytest.raises(TokenRefused, match=reason):
        await tokens.read(provider.sign(claims_of(provider, **changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": FromNow(-5)},
        {"iat": FromNow(5)},
        {"aud": ["phone", "another"], "azp": "gallery"},
        {"nbf": FromNow(-5)},
    ],
)
async def test_a_token_is_accepted(tokens: IdTokens, provider: Provider, changes: dict[str, Any]):
    """Clocks differ, and one provider has several applications."""
    token = provider.sign(claims_of(provider, **changes))
    assert (await tokens.read(token)).owner == user_of(provider.issuer, "ada")


async def test_only_the_providers_signature_counts(tokens: IdTokens, provider: Provider, client: httpx.AsyncClient):
    """Not none at all, and none that anybody can make with the public key as a secret."""
    good = provider.sign(claims_of(provider))
    jwks = (await client.get(f"{provider.issuer}/jwks")).json()["keys"]
    [key] = [each for each in jwks if each["alg"] == "RS256"]
    body, _, signature = good.rpartition(".")
    header, _, _ = body.partition(".")
    forged = unsigned(claims_of(provider, sub="grace")).partition(".")[2]
    attempts = {
        unsigned(claims_of(provider), alg="none") + ".": "not signed with",
        unsigned(claims_of(provider), alg="None") + "." + signature: "not signed with",
        f"{body}.": "signature",
        f"{header}.{forged}.{signature}": "signature",
        # An algorithm that the key is not for.
        unsigned(claims_of(provider), alg="ES256", kid=key["kid"]) + "." + signature: "no such key",
        "a.b.c": "no JSON Web Token",
        good + "." + "x" * 20_000: "too long",
    }
    for secret in (json.dumps(key), key["n"], ""):
        confused = unsigned(claims_of(provider), alg="HS256", kid=key["kid"])
        mac = hmac.new(secret.encode(), confused.encode(), hashlib.sha256).digest()
        attempts[f"{confused}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"] = "not signed with"
    for token, reason in attempts.items():
        with pytest.raises(TokenRefused, match=reason):
            await tokens.read(token)


@pytest.mark.parametrize("kind", ["at+jwt", "logout+jwt", "JWE"])
async def test_other_tokens_of_the_provider_are_no_id_tokens(tokens: IdTokens, provider: Provider, kind: str):
    """Access and logout tokens are sent to other places, which could then act as the user here."""
    with pytest.raises(TokenRefused, match="no ID token"):
        await tokens.read(provider.sign(claims_of(provider), typ=kind))


async def test_keys_are_changed_without_a_restart(tokens: IdTokens, provider: Provider):
    """A token with a new key has the keys fetched, and the old key is gone then."""
    old = provider.sign(claims_of(provider))
    await tokens.read(old)
    provider.rotate()
    assert await tokens.read(provider.sign(claims_of(provider)))
    with pytest.raises(TokenRefused, match="no such key"):
        await tokens.read(old)


async def test_invented_keys_do_not_flood_the_provider(tokens: IdTokens, provider: Provider):
    """Anybody can send such tokens: they cause one fetch in a while."""
    await tokens.read(provider.sign(claims_of(provider)))
    before = provider.fetched()
    for number in range(20):
        with pytest.raises(TokenRefused, match="no such key"):
            await tokens.read(provider.sign(claims_of(provider), kid=f"invented-{number}"))
    assert provider.fetched() == before + 1
    assert await tokens.read(provider.sign(claims_of(provider)))


async def test_without_the_provider_known_keys_are_used_for_a_while(
    tokens: IdTokens, provider: Provider, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    """And after that nobody is let in: the answer is 503."""
    token = provider.sign(claims_of(provider))
    await tokens.read(token)
    with provider.down():
        monkeypatch.setattr(sign_in_issuer, "FRESH_S", 0.0)
        assert await tokens.read(token)
        monkeypatch.setattr(sign_in_issuer, "USABLE_S", 0.0)
        with pytest.raises(SignInUnavailable):
            await tokens.read(token)
        with pytest.raises(SignInUnavailable):
            await IdTokens([Issuer(provider.issuer, client)], APPS).read(token)


async def test_an_issuer_without_a_discovery_document_has_its_keys_named(provider: Provider, client: httpx.AsyncClient):
    """Identity-Aware Proxy is such an issuer."""
    issuer = Issuer("https://cloud.example/iap", client, f"{provider.issuer}/jwks")
    token = provider.sign(claims_of(provider, iss=issuer.url, aud="/projects/1"), "ES256")
    assert (await IdTokens([issuer], ["/projects/1"]).read(token)).owner == user_of(issuer.url, "ada")


async def test_a_token_is_an_owner_beside_keys(settings: Settings, fleet: FakeFleet, provider: Provider):
    """For every call, and instead of a cookie. A bad one is refused, and is not taken for an anonymous caller."""
    iap = {"sign_in_token_header": "X-Goog-IAP-JWT-Assertion"}
    async with running(with_sign_in(settings, provider, **iap), fleet) as client:
        good, bad = provider.sign(claims_of(provider)), provider.sign(claims_of(provider, aud="another"))
        headers = {"Authorization": f"Bearer {good}"}
        walk = await client.post("/api/v1/walks", json={"start": "a", "end": "b", "frames": 2}, headers=headers)
        assert (walk.status_code, "set-cookie" in walk.headers) == (201, False)
        assert len((await client.get("/api/v1/walks?owner=me", headers=headers)).json()["walks"]) == 1
        behind = {"X-Goog-IAP-JWT-Assertion": good}
        assert len((await client.get("/api/v1/walks?owner=me", headers=behind)).json()["walks"]) == 1
        for refused in ({"Authorization": f"Bearer {bad}"}, {"X-Goog-IAP-JWT-Assertion": bad}):
            answer = await client.get("/api/v1/me", headers=refused)
            assert (answer.status_code, answer.json()["type"]) == (401, "urn:momalisa:problem:token-refused")
            assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        unknown = await client.get("/api/v1/me", headers={"Authorization": "Bearer momalisa_key"})
        assert unknown.json()["type"] == "urn:momalisa:problem:unknown-key"
    async with running(settings, FakeFleet()) as client:
        answer = await client.get("/api/v1/me", headers={"Authorization": f"Bearer {good}"})
        assert answer.json()["type"] == "urn:momalisa:problem:unknown-key"
