"""Sign-in for the gallery: to the identity provider and back, and the end of a session."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from momalisa_api.problems import CatalogueUnavailable, Invalid, SignInFailed, SignInOff, SignInUnavailable
from momalisa_api.web.plain_page import plain_page
from momalisa_api.web.problem_json import documented
from momalisa_api.web.routes.auth import COOKIE, session_cookie
from momalisa_api.web.routes.deps import HandoverDep, OwnersDep, SettingsDep, SignInDep
from momalisa_api.web.sign_in_sessions import SIGN_IN_S

PATH: Final = "/api/v1/sign-in"
STATE_COOKIE: Final = "momalisa_sign_in"
# A path of this server: browsers take // and /\ for the start of another one's address, and skip control characters.
LOCAL_PATH: Final = r"^/([^/\\\x00-\x20\x7f][^\\\x00-\x20\x7f]*)?$"
NO_SIGN_IN: Final = "The gallery has no identity provider here. Use it without one, or send an ID token or an API key."
REDIRECT: Final = {
    "description": "To the identity provider",
    "headers": {"Location": {"description": "Its page.", "schema": {"type": "string"}}},
}

router = APIRouter(tags=["owners"])


@router.get(
    "/sign-in",
    summary="Sign in",
    status_code=302,
    response_class=Response,
    responses={302: REDIRECT, **documented(SignInOff, Invalid, SignInUnavailable, CatalogueUnavailable)},
)
async def sign_in_at_provider(
    request: Request,
    settings: SettingsDep,
    ways: SignInDep,
    next: Annotated[
        str, Query(description="Path of this server to return to.", pattern=LOCAL_PATH, max_length=1000)
    ] = "/",
    claim: Annotated[
        bool, Query(description="Whether walks and pictures of this browser's cookie become yours.")
    ] = False,
) -> Response:
    """Sign in at the identity provider, in a browser: it returns to `next`. Scripts send ID tokens or API keys."""
    if not ways.code_flow:
        raise SignInOff(NO_SIGN_IN)
    base = _base(request, settings.public_url)
    try:
        url, cookie = await ways.code_flow.begin(f"{base}{PATH}/callback", next, claim)
    except SignInUnavailable as problem:
        return _failed(request, problem)
    answer = _redirect(url, 302)
    secure = request.url.scheme == "https"
    answer.set_cookie(STATE_COOKIE, cookie, SIGN_IN_S, path=PATH, httponly=True, samesite="lax", secure=secure)
    return answer


# Only providers send browsers here, with parameters of OpenID Connect.
@router.get("/sign-in/callback", include_in_schema=False)
async def finish_sign_in(
    request: Request,
    settings: SettingsDep,
    ways: SignInDep,
    owners: OwnersDep,
    handover: HandoverDep,
) -> Response:
    """Open a session for the user whom the provider names, and redirect to the page from before."""
    if not ways.code_flow or not ways.sessions:
        raise SignInOff(NO_SIGN_IN)
    redirect_uri = f"{_base(request, settings.public_url)}{PATH}/callback"
    try:
        done = await ways.code_flow.finish(request.cookies.get(STATE_COOKIE), request.query_params, redirect_uri)
    except (SignInFailed, SignInUnavailable) as problem:
        return _failed(request, problem)
    answer = _redirect(done.next, 303)
    answer.delete_cookie(STATE_COOKIE, path=PATH, httponly=True, samesite="lax")
    if done.identity:
        before = owners.of_cookie(request.cookies.get(COOKIE, ""))
        if done.claim and before:
            await handover.move(before, done.identity.owner)
        session = await ways.sessions.open(done.identity)
        age, secure = int(ways.sessions.session_s), request.url.scheme == "https"
        name = session_cookie(request)
        answer.set_cookie(name, session, age, path="/", httponly=True, samesite="lax", secure=secure)
    return answer


@router.post("/sign-out", summary="Sign out", status_code=204)
async def sign_out(request: Request, response: Response) -> None:
    """End this browser's session. You stay signed in at the identity provider."""
    secure = request.url.scheme == "https"
    response.delete_cookie(session_cookie(request), path="/", httponly=True, samesite="lax", secure=secure)


def _failed(request: Request, problem: SignInFailed | SignInUnavailable) -> Response:
    """A page for a visitor, whom the provider or the gallery has sent here. Raises the problem for other callers."""
    if "text/html" not in request.headers.get("accept", ""):
        raise problem
    return plain_page(problem.title, str(problem), link="Back to the gallery", status=problem.status)


def _base(request: Request, public_url: str | None) -> str:
    return (public_url or str(request.base_url)).rstrip("/")


def _redirect(url: str, status: int) -> RedirectResponse:
    return RedirectResponse(url, status, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
