"""Whether a GET may start a walk: the pages of other sites, and prefetchers, must not make a browser start one."""

from typing import Annotated, Final

from fastapi import Depends, Request

from momalisa_api.store.networks import address_of
from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.web.routes.auth import Caller, Key
from momalisa_api.web.routes.deps import SettingsDep

REFUSED: Final = (
    "This walk does not exist yet, and a GET from another site, a prefetch, or a caller without a key does not start "
    "it here. Send the GET with an API key (Authorization: Bearer KEY), or start the walk with POST /api/v1/walks."
)
# What browsers, and the proxies and apps that fetch ahead for them, send.
_PURPOSES: Final = ("sec-purpose", "purpose", "x-purpose", "x-moz")
_AHEAD: Final = ("prefetch", "prerender", "preview")
# Of a page of this site, or of an address that somebody typed or bookmarked (https://www.w3.org/TR/fetch-metadata/).
_OWN_SITES: Final = ("same-origin", "none")


async def _starts(request: Request, settings: SettingsDep, caller: Caller, key: Key) -> bool:
    """Whether the caller's GET may start a walk.

    What another site's page has a browser send can have the visitor's cookie: sites of one domain are one site to
    cookies, and those of a proxy in front may go along from anywhere. No page can add a key.

    Browsers send no fetch metadata to servers without HTTPS, except to those on their own machine. There, a request
    without it comes from a program.
    """
    purposes = " ".join(request.headers.get(name, "") for name in _PURPOSES).lower()
    if any(ahead in purposes for ahead in _AHEAD):
        return False
    site = request.headers.get("sec-fetch-site")
    if key or site in _OWN_SITES or settings.open_get == "on":
        return True
    if site is not None:
        return False
    return caller != ANONYMOUS or (settings.open_get == "auto" and _is_on_this_machine(request))


def _is_on_this_machine(request: Request) -> bool:
    address = address_of(request.client.host if request.client else None)
    return address is not None and address.is_loopback


Starts = Annotated[bool, Depends(_starts)]
