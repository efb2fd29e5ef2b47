"""ASGI middleware against cross-site request forgery: other sites' pages cannot change anything here."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from momalisa_api.problems import CrossSiteRequest
from momalisa_api.web.problem_json import answer


class NoCrossSiteChanges:
    """Refuses what a page of another site has a browser send, except for reading.

    Cookies are SameSite=Lax, so that they do not come along; but what a proxy in front accepts may: its own cookies, or
    a password that the browser remembers. And sites of one domain are one site to SameSite.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        changes = scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if changes and _is_cross_site(Headers(scope=scope)):
            refused = CrossSiteRequest("A page of another site sent this request. Use this server's own pages.")
            await answer(refused)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _is_cross_site(headers: Headers) -> bool:
    """Whether a browser says that another origin's page made a request. Other clients send neither header."""
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    # Browsers send the header above to secure origins only.
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")
