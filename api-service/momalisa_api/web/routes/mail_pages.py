"""The pages behind the links in mails: confirm an address, or stop all mail to it. Opening a link changes nothing.

Programs that check mail for dangerous links open them too, so that only a button acts.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from momalisa_api.problems import CatalogueUnavailable, MailStopped, NotOwner
from momalisa_api.store.mail_tokens import BOND_S
from momalisa_api.web.plain_page import plain_page
from momalisa_api.web.routes.deps import NoticeIntakeDep
from momalisa_api.web.routes.notices import MAIL_COOKIE

router = APIRouter(prefix="/mail", include_in_schema=False)

Token = Annotated[str, Query(max_length=2000)]


@router.get("/confirm")
async def confirm_page(token: Token = "") -> HTMLResponse:
    """A page with a button that confirms an address."""
    return plain_page(
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
        return plain_page(
            "Nothing to confirm", "The walk is no longer requested, so there is no mail to send.", status=410
        )
    except MailStopped as problem:
        return plain_page(problem.title, str(problem), status=problem.status)
    except CatalogueUnavailable as problem:
        return plain_page("Try again", str(problem), status=problem.status)
    if not found:
        return plain_page(
            "This link does not work", "It has expired, or is incomplete. Request a new mail.", status=410
        )
    cookie, new = found
    answer = plain_page(
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
    return plain_page(title, "Your address then gets no mail from here for a year.", button=title, token=token)


@router.post("/stop")
async def stop(intake: NoticeIntakeDep, token: Token = "") -> HTMLResponse:
    """Stop all mail to an address: by the button, or by a mail program (RFC 8058)."""
    try:
        stopped = await intake.stop(token)
    except CatalogueUnavailable as problem:
        return plain_page("Try again", str(problem), status=problem.status)
    if not stopped:
        return plain_page("This link does not work", "It is incomplete. Open it again from the mail.", status=410)
    return plain_page("Mail stopped", "Your address gets no mail from here for a year.")
