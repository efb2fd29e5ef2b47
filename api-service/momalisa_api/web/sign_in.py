"""Who is signed in: from an ID token, a proxy's header, or a session. Owners by key or cookie: web/routes/auth.py."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from momalisa_api.settings import Settings
from momalisa_api.store.session_secrets import SessionSecrets
from momalisa_api.web.identity import Identity
from momalisa_api.web.sign_in_code import CodeFlow
from momalisa_api.web.sign_in_issuer import Issuer
from momalisa_api.web.sign_in_proxy import ProxyUsers
from momalisa_api.web.sign_in_sessions import Sessions
from momalisa_api.web.sign_in_tokens import IdTokens


@dataclass(frozen=True, slots=True)
class SignIn:
    """The ways in which visitors can sign in; None stands for a way that the settings leave out.

    token_header: the header in which a proxy sends an ID token.
    """

    proxy_users: ProxyUsers | None = None
    tokens: IdTokens | None = None
    token_header: str | None = None
    sessions: Sessions | None = None
    code_flow: CodeFlow | None = None

    async def of_token(self, token: str) -> Identity | None:
        """The user that a bearer token names; None if it is no ID token, or if nobody can sign in with one.

        Raises TokenRefused, SignInUnavailable.
        """
        if not self.tokens or token.count(".") != 2:
            return None
        return await self.tokens.read(token)

    async def of_request(self, headers: Mapping[str, str], peer: str | None, session: str | None) -> Identity | None:
        """The user that a proxy or a session names. peer: the address of the direct connection.

        Raises TokenRefused, SignInUnavailable, CatalogueUnavailable.
        """
        if self.token_header and self.tokens and (token := headers.get(self.token_header)):
            return await self.tokens.read(token)
        if self.proxy_users and (named := self.proxy_users.read(headers, peer)):
            return named
        return await self.sessions.read(session) if self.sessions and session else None


def sign_in_of(settings: Settings, secrets: SessionSecrets, client: httpx.AsyncClient) -> SignIn:
    """Sign-in as the settings describe it. client: for calls of the providers."""
    if settings.sign_in == "off":
        return SignIn()
    networks, names = settings.named_proxies, settings.named_issuers
    proxy_users = ProxyUsers(networks, settings.sign_in_user_header, settings.sign_in_email_header)
    if not names:
        return SignIn(proxy_users)
    issuers = [Issuer(url, client, settings.sign_in_jwks_url if url == names[0] else None) for url in names]
    tokens = IdTokens(issuers, settings.named_audiences)
    sessions, flow = None, None
    if client_id := settings.sign_in_client_id:
        sessions = Sessions(secrets, settings.sign_in_session_h * 3600, names)
        secret = settings.read_client_secret()
        flow = CodeFlow(issuers[0], client, tokens, sessions, client_id, secret, settings.sign_in_scopes)
    return SignIn(proxy_users, tokens, settings.sign_in_token_header, sessions, flow)
