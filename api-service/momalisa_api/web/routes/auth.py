"""The owner behind a request, from its API key or cookie, and its network; new visitors get a cookie."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import Depends, Request, Response, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from momalisa_api.problems import Problem
from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.web.routes.deps import NetworksDep, OwnersDep

COOKIE = "momalisa_owner"
COOKIE_AGE_S = 400 * 24 * 3600

_bearer = HTTPBearer(auto_error=False, description="An API key, made by `momalisa keys add NAME`.")
_cookie = APIKeyCookie(
    name=COOKIE, auto_error=False, description="Set by your first POST; it identifies the owner of your requests."
)

# For the OpenAPI document: an operation that callers may also use without a key or cookie. FastAPI appends this.
WITHOUT_CREDENTIALS: Final[dict[str, Any]] = {"security": [{}]}

Key = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
Cookie = Annotated[str | None, Security(_cookie)]


async def _caller(owners: OwnersDep, key: Key, cookie: Cookie) -> str:
    """The caller's owner id; callers without a key or cookie share one."""
    if key:
        return await owners.of_key(key.credentials)
    return (owners.of_cookie(cookie) if cookie else None) or ANONYMOUS


async def _owner(
    owners: OwnersDep, caller: Annotated[str, Depends(_caller)], request: Request, response: Response
) -> AsyncIterator[str]:
    """The caller's owner id; a caller without a key or cookie gets a new one in a cookie, also if it is refused."""
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


Caller = Annotated[str, Depends(_caller)]
Network = Annotated[str, Depends(_network)]
Owner = Annotated[str, Depends(_owner)]


async def _verified_email() -> str | None:
    """The caller's e-mail address, if an identity provider has verified it."""
    return None


VerifiedEmail = Annotated[str | None, Depends(_verified_email)]
