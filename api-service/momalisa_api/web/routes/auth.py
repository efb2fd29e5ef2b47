"""The owner behind a request: a signed-in user, an API key or a cookie; and its network. New visitors get a cookie."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import Depends, Request, Response, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from momalisa_api.problems import Problem, SignInRequired
from momalisa_api.settings import Settings
from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.web.identity import USER, Identity
from momalisa_api.web.routes.deps import NetworksDep, OwnersDep, SettingsDep, SignInDep
from momalisa_api.web.sign_in_proxy import PEER

COOKIE = "momalisa_owner"
COOKIE_AGE_S = 400 * 24 * 3600
SESSION_COOKIE: Final = "momalisa_session"
HOW_TO_SIGN_IN: Final = "Sign in at /api/v1/sign-in, or send an ID token or an API key as `Authorization: Bearer`."

_bearer = HTTPBearer(
    auto_error=False,
    description="An API key, made by `momalisa keys add NAME`, or an ID token of an issuer that the server trusts.",
)
_cookie = APIKeyCookie(
    name=COOKIE, auto_error=False, description="Set by your first POST; it identifies the owner of your requests."
)

# For the OpenAPI document: an operation that callers may also use without a key or cookie. FastAPI appends this.
WITHOUT_CREDENTIALS: Final[dict[str, Any]] = {"security": [{}]}

Key = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
Cookie = Annotated[str | None, Security(_cookie)]


def session_cookie(request: Request) -> str:
    """The name of the cookie of sessions. Browsers take the prefix from this host over TLS only (RFC 6265bis)."""
    return f"__Host-{SESSION_COOKIE}" if request.url.scheme == "https" else SESSION_COOKIE


async def _identity(sign_in: SignInDep, key: Key, request: Request) -> Identity | None:
    """The signed-in user. What is in the Authorization header counts alone."""
    if key:
        return await sign_in.of_token(key.credentials)
    session = request.cookies.get(session_cookie(request))
    return await sign_in.of_request(request.headers, request.scope.get(PEER), session)


SignedInUser = Annotated[Identity | None, Depends(_identity)]


async def _caller(owners: OwnersDep, user: SignedInUser, key: Key, cookie: Cookie) -> str:
    """The caller's owner id; callers without a sign-in, key or cookie share one."""
    if user:
        return user.owner
    if key:
        return await owners.of_key(key.credentials)
    return (owners.of_cookie(cookie) if cookie else None) or ANONYMOUS


def must_sign_in(owner: str, settings: Settings) -> bool:
    """Whether an owner is refused what only users and API keys can do in this deployment."""
    return settings.sign_in == "required" and not owner.startswith((USER, "key:"))


async def _owner(
    owners: OwnersDep,
    settings: SettingsDep,
    caller: Annotated[str, Depends(_caller)],
    request: Request,
    response: Response,
) -> AsyncIterator[str]:
    """The caller's owner id; a caller without one gets a new one in a cookie, also if it is refused.

    Raises SignInRequired where visitors must sign in.
    """
    if must_sign_in(caller, settings):
        raise SignInRequired(HOW_TO_SIGN_IN)
    if caller != ANONYMOUS:
        yield caller
        return
    cookie = owners.new_cookie()
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, cookie, COOKIE_AGE_S, path="/api", httponly=True, samesite="lax", secure=secure)
    try:
        yield owners.of_cookie(cookie) or ANONYMOUS
    except Problem as problem:
        problem.headers = {**problem.headers, "Set-Cookie": response.headers["Set-Cookie"]}
        raise


async def _network(networks: NetworksDep, request: Request) -> str:
    """A keyed hash of the caller's IPv4 address or IPv6 /64, as far as trusted proxies tell it (server.py)."""
    return networks.of(request.client.host if request.client else None)


async def _verified_email(user: SignedInUser) -> str | None:
    """The caller's e-mail address, if an identity provider has verified it."""
    return user.email if user else None


Caller = Annotated[str, Depends(_caller)]
Network = Annotated[str, Depends(_network)]
Owner = Annotated[str, Depends(_owner)]
VerifiedEmail = Annotated[str | None, Depends(_verified_email)]
