"""The signed cookies of signed-in visitors: the session, and the state of a sign-in that is under way.

There is no table of sessions: a session ends in the browser, with its time, or with the secret that signed it.
"""

import hashlib
from typing import Any, Final

from itsdangerous import BadSignature, URLSafeTimedSerializer

from momalisa_api.store.session_secrets import SessionSecrets
from momalisa_api.web.identity import Identity

# A sign-in has to be finished within this time.
SIGN_IN_S: Final = 600


class Sessions:
    """Makes and reads both kinds of cookie. Raises CatalogueUnavailable."""

    def __init__(self, secrets: SessionSecrets, session_s: float, issuers: tuple[str, ...]) -> None:
        """session_s: how long a session lasts; issuers: those whose users are still accepted."""
        self._secrets = secrets
        self.session_s = session_s
        self._issuers = issuers

    async def open(self, identity: Identity) -> str:
        """The cookie of a new session. It is always a new value, whatever the browser had."""
        content = [identity.owner, identity.issuer, identity.name, identity.email]
        return await self._signed("session", content)

    async def read(self, cookie: str) -> Identity | None:
        """The user of a session; None if it has ended or was never made here."""
        content = await self._content("session", cookie, self.session_s)
        identity = Identity(*content) if content else None
        return identity if identity and identity.issuer in self._issuers else None

    async def begin(self, state: dict[str, Any]) -> str:
        """The cookie of a sign-in that is under way. It ties the provider's answer to this browser."""
        return await self._signed("sign-in", state)

    async def resume(self, cookie: str) -> dict[str, Any] | None:
        """The state of a sign-in; None if it took too long or began in another browser."""
        state: dict[str, Any] | None = await self._content("sign-in", cookie, SIGN_IN_S)
        return state

    async def _signed(self, purpose: str, content: Any) -> str:
        signed = (await self._serializer(purpose)).dumps(content)
        return signed if isinstance(signed, str) else signed.decode()

    async def _content(self, purpose: str, cookie: str, max_age_s: float) -> Any:
        try:
            return (await self._serializer(purpose)).loads(cookie, max_age=int(max_age_s))
        except BadSignature:
            return None

    async def _serializer(self, purpose: str) -> URLSafeTimedSerializer:
        secrets = await self._secrets.current()
        return URLSafeTimedSerializer(
            secrets, salt=f"momalisa {purpose}", signer_kwargs={"digest_method": hashlib.sha256}
        )
