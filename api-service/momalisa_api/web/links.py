"""Signed links to one private walk, and the scopes that keep the walks of owners apart. Nothing of it is stored."""

import hashlib
import hmac
from datetime import UTC, datetime

from itsdangerous import Signer

from momalisa_api.problems import LinkExpired
from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.walks.spec import WalkSpec

EXPIRED = "This link has expired. Ask the person who sent it for another one."


class Links:
    """Makes and checks the tokens of links, in the same way in every process of a deployment.

    A token belongs to one walk, by its id and by its number: a walk that is deleted and requested again has another
    number, so that old links stay dead.
    """

    def __init__(self, secret: str) -> None:
        self._signer = Signer(secret, salt="momalisa link", digest_method=hashlib.sha256)

    def token(self, walk_id: str, number: int, expires_at: datetime) -> str:
        """A token that opens a walk until a time: hexadecimal seconds, a dot, and a signature."""
        expires = f"{int(expires_at.timestamp()):x}"
        return f"{expires}.{self._signer.get_signature(_signed(walk_id, number, expires)).decode()}"

    def opens(self, token: str | None, walk_id: str, number: int) -> bool:
        """Whether a token opens a walk. Raises LinkExpired for one that did: only its holders can learn this."""
        expires, _, signature = (token or "").partition(".")
        if not self._signer.verify_signature(_signed(walk_id, number, expires), signature.encode()):
            return False
        if int(expires, 16) <= datetime.now(UTC).timestamp():
            raise LinkExpired(EXPIRED)
        return True


class Scopes:
    """The scope of each owner's private walks: nobody else can compute it, and so the ids of these walks."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def of(self, owner: str) -> str:
        """32 hex digits."""
        return hmac.new(self._secret, f"momalisa scope\n{owner}".encode(), hashlib.sha256).hexdigest()[:32]

    def applied(self, spec: WalkSpec, owner: str, listed: bool | None) -> WalkSpec:
        """The spec of an owner's request: private if it has a picture or a clip, or if the owner does not list it.

        Anonymous callers share one owner, so they have no walks of their own.
        """
        private = spec.has_uploads or (listed is False and owner != ANONYMOUS)
        return spec.in_scope(self.of(owner)) if private else spec


def _signed(walk_id: str, number: int, expires: str) -> str:
    return f"{walk_id}.{number}.{expires}"
