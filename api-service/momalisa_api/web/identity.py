"""Who a signed-in caller is, as an identity provider or a proxy says it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# Longer ones would not fit into a session's cookie.
MAX_NAME: Final = 100
MAX_EMAIL: Final = 254
USER: Final = "user:"


@dataclass(frozen=True, slots=True)
class Identity:
    """A signed-in user. owner: the owner id; email: None unless the provider has verified the address."""

    owner: str
    issuer: str
    name: str | None = None
    email: str | None = None


def user_of(issuer: str, subject: str) -> str:
    """The owner id of a user. It depends on both, as two issuers can give one subject to two people."""
    return USER + hashlib.sha256(f"{issuer}\n{subject}".encode()).hexdigest()[:40]


def identity_of(claims: Mapping[str, Any]) -> Identity:
    """The identity that the claims of a verified token describe. Some providers send `email_verified` as a text."""
    email, verified = claims.get("email"), claims.get("email_verified") in (True, "true")
    name = next(filter(None, (_text(claims.get(claim), MAX_NAME) for claim in ("name", "preferred_username"))), None)
    return Identity(
        user_of(claims["iss"], claims["sub"]),
        claims["iss"],
        name,
        email if verified and email_fits(email) else None,
    )


def email_fits(email: Any) -> bool:
    """Whether something is an e-mail address that fits everywhere; no check that it exists."""
    return isinstance(email, str) and len(email) <= MAX_EMAIL and email.isprintable() and email.find("@") > 0


def _text(value: Any, most: int) -> str | None:
    """A claim as one printable line of at most `most` characters."""
    if not isinstance(value, str):
        return None
    return "".join(letter for letter in value if letter.isprintable()).strip()[:most] or None
