"""Verifies ID tokens (OpenID Connect Core, section 3.1.3.7): who signed them, for whom, and when."""

from collections.abc import Collection, Iterable
from typing import Any, Final

import jwt

from momalisa_api.problems import TokenRefused
from momalisa_api.web.identity import Identity, identity_of
from momalisa_api.web.sign_in_issuer import ALGORITHMS, Issuer

# How far the clocks of two machines may differ.
SKEW_S: Final = 60
MAX_TOKEN_CHARS: Final = 16_384
MAX_SUBJECT: Final = 255
REQUIRED: Final = ["iss", "aud", "exp", "iat", "sub"]
_REASONS: Final = (
    (jwt.ExpiredSignatureError, "it has expired"),
    (jwt.ImmatureSignatureError, "it is from the future"),
    (jwt.InvalidAudienceError, "it is for another application"),
    (jwt.MissingRequiredClaimError, "it lacks a claim"),
    (jwt.InvalidSignatureError, "its signature is wrong"),
)


class IdTokens:
    """Reads ID tokens of some issuers. Raises TokenRefused for all others, and SignInUnavailable."""

    def __init__(self, issuers: Iterable[Issuer], audiences: Collection[str]) -> None:
        self._issuers = {issuer.url: issuer for issuer in issuers}
        self._audiences = frozenset(audiences)

    async def read(self, token: str) -> Identity:
        """The user that an ID token names."""
        return identity_of(await self.claims(token, self._audiences))

    async def claims(self, token: str, audiences: Collection[str]) -> dict[str, Any]:
        """The claims of an ID token for one of these audiences."""
        if len(token) > MAX_TOKEN_CHARS:
            raise _refused("it is too long")
        try:
            header = jwt.get_unverified_header(token)
            issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except jwt.PyJWTError:
            raise _refused("it is no JSON Web Token") from None
        # Access tokens (at+jwt) and logout tokens of the same issuer can have the same audience.
        if str(header.get("typ", "JWT")).lower() != "jwt":
            raise _refused("it is no ID token")
        if header.get("alg") not in ALGORITHMS:
            raise _refused(f"it is not signed with one of {', '.join(ALGORITHMS)}")
        known = self._issuers.get(issuer) if isinstance(issuer, str) else None
        if not known:
            raise _refused("its issuer is not known here")
        key = await known.key(header.get("kid"), header["alg"])
        if not key:
            raise _refused("its issuer has no such key")
        return _verified(token, key, known.url, audiences)


def _verified(token: str, key: jwt.PyJWK, issuer: str, audiences: Collection[str]) -> dict[str, Any]:
    options: Any = {"require": REQUIRED}
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=ALGORITHMS,
            audience=list(audiences),
            issuer=issuer,
            leeway=SKEW_S,
            options=options,
        )
    except jwt.PyJWTError as error:
        raise _refused(next((why for kind, why in _REASONS if isinstance(error, kind)), "it is not valid")) from None
    if not 0 < len(claims["sub"]) <= MAX_SUBJECT:
        raise _refused("its subject is empty or too long")
    # The party that the token was issued to; needed where there are several audiences.
    authorized = claims.get("azp")
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if (authorized is not None or several) and authorized not in audiences:
        raise _refused("it was issued to another application")
    return claims


def _refused(why: str) -> TokenRefused:
    return TokenRefused(f"This ID token is not accepted: {why}. Get a new one, or use an API key.")
