"""Small pages that the API shows by itself, without the gallery: behind links in mails, and when a sign-in fails."""

import hashlib
from base64 import b64encode
from html import escape
from typing import Final

from fastapi.responses import HTMLResponse

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


def plain_page(
    title: str, text: str, *, button: str = "", token: str = "", link: str = "", status: int = 200
) -> HTMLResponse:
    """A page with a title and a text. button: sends the page's own token back; link: to the gallery, with this text."""
    form = f'<form method="post" action="?token={escape(token)}"><button>{button}</button></form>' if button else ""
    way = f'<p><a href="/">{escape(link)}</a></p>' if link else ""
    content = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<main><h1>{escape(title)}</h1><p>{escape(text)}</p>{form}{way}</main></html>"
    )
    return HTMLResponse(content, status, PAGE_HEADERS)
