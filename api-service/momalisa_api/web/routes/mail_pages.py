"""The pages behind the links in mails: confirm an address, or stop all mail to it. Opening a link changes nothing.

Programs that check mail for dangerous links open them too, so that only a button acts.
"""

import hashlib
from base64 import b64encode
from html import escape
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from momalisa_api.problems import CatalogueUnavailable, MailStopped, NotOwner
from momalisa_api.store.mail_tokens import BOND_S
from momalisa_api.web.routes.deps import NoticeIntakeDep
from momalisa_api.web.routes.notices import MAIL_COOKIE

_STYLE: Final = (
    ":root{color-scheme:light dark;font:1.125rem/1.5 system-ui,sans-serif}"
    "body{max-width:32rem;margin:15vh auto;padding:0 1.5rem}"
    "button{font:inherit;font-weight:600;padding:.6rem 1.4rem;border:0;border-radius:.5rem;"
    "background:#4338ca;color:#fff;cursor:pointer}"
    "button:focus-visible{outline:3px solid #818cf8;outline-offset:2px}"
)
_STYLE_HASH: Final = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
PAGE_HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    # The token must not reach other sites. With no-referrer, the form would have no origin.
    "Referrer-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
    "X-Content-Type-Options": "nosniff",
}

router = APIRouter(prefix="/mail", include_in_schema=False)

Token = Annotated[str, Query(max_length=2000)]


@router.get("/confirm")
async def confirm_page(token: Token = "") -> HTMLResponse:
    """A page with a button that confirms an address."""
    return _page(
        "Confirm your address",
        "You get a mail when the walk that you requested is done.",
        button="Confirm",
        token=token,
    )


@router.post("/confirm")
async def confirm(request: Request, intake: NoticeIntakeDep, token: Token = "") -> HTMLResponse:
    """Confirm an address."""
    try:
        found = await intake.confirm(token)
    except NotOwner:
        return _page("Nothing to confirm", "The walk is no longer requested, so there is no mail to send.", status=410)
    except MailStopped as problem:
        return _page(problem.title, str(problem), status=problem.status)
    except CatalogueUnavailable as problem:
        return _page("Try again", str(problem), status=problem.status)
    if not found:
        return _page("This link does not work", "It has expired, or is incomplete. Request a new mail.", status=410)
    cookie, new = found
    answer = _page(
        "Address confirmed",
        "You get a mail as soon as the walk is done." if new else "It was confirmed before. There is nothing to do.",
    )
    secure = request.url.scheme == "https"
    answer.set_cookie(MAIL_COOKIE, cookie, BOND_S, path="/api", httponly=True, samesite="lax", secure=secure)
    return answer


@router.get("/stop")
async def stop_page(token: Token = "") -> HTMLResponse:
    """A page with a button that stops all mail to an address."""
    title = "Stop all mail"
    return _page(title, "Your address then gets no mail from here for a year.", button=title, token=token)


@router.post("/stop")
async def stop(intake: NoticeIntakeDep, token: Token = "") -> HTMLResponse:
    """Stop all mail to an address: by the button, or by a mail program (RFC 8058)."""
    try:
        stopped = await intake.stop(token)
    except CatalogueUnavailable as problem:
        return _page("Try again", str(problem), status=problem.status)
    if not stopped:
        return _page("This link does not work", "It is incomplete. Open it again from the mail.", status=410)
    return _page("Mail stopped", "Your address gets no mail from here for a year.")


def _page(title: str, text: str, *, button: str = "", token: str = "", status: int = 200) -> HTMLResponse:
    form = f'<form method="post" action="?token={escape(token)}"><button>{button}</button></form>' if button else ""
    content = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<main><h1>{escape(title)}</h1><p>{escape(text)}</p>{form}</main></html>"
    )
    return HTMLResponse(content, status, PAGE_HEADERS)
