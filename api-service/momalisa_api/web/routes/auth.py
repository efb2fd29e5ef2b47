"""Who calls, read from what a request brings; and the cookie for those who bring nothing."""

from typing import Annotated

from fastapi import Depends, Request, Response, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.web.routes.deps import OwnersDep

COOKIE = "momalisa_owner"
COOKIE_AGE_S = 400 * 24 * 3600

_bearer = HTTPBearer(auto_error=False, description="An API key, made by `momalisa keys add NAME`.")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="Set by the first POST; it makes walks yours.")

Key = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
Cookie = Annotated[str | None, Security(_cookie)]


async def _caller(owners: OwnersDep, key: Key, cookie: Cookie) -> str:
    """Whoever calls; those who bring nothing are one owner together."""
    if key:
        return await owners.of_key(key.credentials)
    return (owners.of_cookie(cookie) if cookie else None) or ANONYMOUS


async def _asker(
    owners: OwnersDep, caller: Annotated[str, Depends(_caller)], request: Request, response: Response
) -> str:
    """Whoever calls; who brings nothing becomes somebody, and is told by a cookie."""
    if caller != ANONYMOUS:
        return caller
    cookie = owners.new_cookie()
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, cookie, COOKIE_AGE_S, path="/api", httponly=True, samesite="lax", secure=secure)
    return owners.of_cookie(cookie) or ANONYMOUS


Caller = Annotated[str, Depends(_caller)]
Asker = Annotated[str, Depends(_asker)]
