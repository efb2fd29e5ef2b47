"""Tokens in the links of mails and in a cookie. They are encrypted, so that no URL and no log shows a mail address."""

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import Any, Final

from cryptography.fernet import Fernet, InvalidToken

CONFIRM_S: Final = 24 * 3600
BOND_S: Final = 180 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What the link in a confirmation mail confirms: that an owner may send mail about walks to an address."""

    walk_id: str
    owner: str
    address: str


class MailTokens:
    """Makes and reads tokens, in the same way in every process of a deployment."""

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(f"momalisa mail\n{secret}".encode()).digest()
        self._fernet = Fernet(urlsafe_b64encode(self._key))

    def digest(self, address: str) -> str:
        """The keyed hash of an address, whatever its case: 64 hexadecimal digits."""
        return hmac.new(self._key, address.lower().encode(), hashlib.sha256).hexdigest()

    def confirmation(self, walk_id: str, owner: str, address: str) -> str:
        """The token of a confirmation mail, valid for `CONFIRM_S` seconds."""
        return self._seal("confirm", walk_id, owner, address)

    def read_confirmation(self, token: str) -> Confirmation | None:
        """What a token confirms; None if it is no such token, or has expired."""
        found = self._open("confirm", token, CONFIRM_S)
        return Confirmation(*found) if found else None

    def stop(self, address: str) -> str:
        """The token of a link that stops all mail to an address. It does not expire."""
        return self._seal("stop", address)

    def read_stop(self, token: str) -> str | None:
        """The address that a token stops; None if it is no such token."""
        found = self._open("stop", token, None)
        return str(found[0]) if found else None

    def bond(self, owner: str, address: str) -> str:
        """The value of the cookie that remembers that an owner has confirmed an address."""
        return self._seal("bond", owner, self.digest(address))

    def bonds(self, cookie: str | None, owner: str, address: str) -> bool:
        """Whether a cookie says that this owner has confirmed this address."""
        return self._open("bond", cookie or "", BOND_S) == [owner, self.digest(address)]

    def _seal(self, purpose: str, *values: str) -> str:
        # Some mail programs leave the padding at the end out of a link.
        return self._fernet.encrypt(json.dumps([purpose, *values]).encode()).decode().rstrip("=")

    def _open(self, purpose: str, token: str, valid_s: int | None) -> list[Any] | None:
        try:
            found = json.loads(self._fernet.decrypt(token.encode() + b"===", ttl=valid_s))
        except (InvalidToken, UnicodeError):
            return None
        return found[1:] if found[0] == purpose else None
