"""Metadata of the gallery's pages for clients that run no scripts: title, description, Open Graph, Twitter.

nginx includes it into a page over HTTP; without nginx, static.py inserts it. Prompts are untrusted text.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse

from momalisa_api.films.films import mp4_size, shared_poster_size
from momalisa_api.films.kinds import FILM_KINDS, FilmName
from momalisa_api.problems import CatalogueUnavailable, Gone, LinkExpired, WalkNotFound
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.gallery import Gallery
from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.walks.apart import ApartSpec
from momalisa_api.walks.between import BetweenSpec
from momalisa_api.walks.clip import ClipSpec
from momalisa_api.walks.into import IntoSpec
from momalisa_api.walks.restyle import RestyleSpec
from momalisa_api.walks.spec import WalkSpec
from momalisa_api.walks.walk import State, Walk
from momalisa_api.web.readers import Readers
from momalisa_api.web.routes.access import LinkToken
from momalisa_api.web.routes.deps import CatalogueDep, GalleryDep, ReadersDep
from momalisa_api.web.routes.schemas import walk_url

NAME: Final = "MoMALisa"
TAGLINE: Final = "Enter two prompts and get an animation that walks from one to the other inside a diffusion model."
# Title and description by path.
PAGES: Final = {
    "/": (NAME, TAGLINE),
    "/new/into": (f"Into a picture · {NAME}", "Upload a picture and get a loop in which a camera moves through it."),
    "/new/restyle": (f"In another style · {NAME}", "Upload a picture and watch it take on another style."),
    "/new/clip": (f"Along a clip · {NAME}", "Upload a short video and get it back in another style, with its sound."),
    "/new/apart": (f"Taken apart · {NAME}", "Upload a picture and get its objects as cut-outs and masks."),
    "/gallery": (f"Gallery · {NAME}", "All listed walks, newest first."),
    "/about": (
        f"About · {NAME}",
        "How a walk works, the model behind it, its limits, and how to request one from a script.",
    ),
    "/data": (f"Your data · {NAME}", "What this server has of you: your walks and pictures, to download or delete."),
}
WALK_PAGE: Final = re.compile("/walks/([0-9a-f]{32})")
LONGEST_PROMPT: Final = 100

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Pages:
    """Finds the walks of pages."""

    gallery: Gallery
    catalogue: Catalogue
    readers: Readers

    async def listed(self, walk_id: str) -> Walk | None:
        return await self.gallery.listed_walk(walk_id)

    async def linked(self, walk_id: str, link: str) -> Walk | None:
        """A private walk that a link opens. The cookies of owners are for the API only, so pages do not get them."""
        walk = await self.catalogue.get(walk_id)
        return walk if await self.readers.check(walk, ANONYMOUS, link) else None


async def _pages(gallery: GalleryDep, catalogue: CatalogueDep, readers: ReadersDep) -> Pages:
    return Pages(gallery, catalogue, readers)


PagesDep = Annotated[Pages, Depends(_pages)]


@router.get("/head", include_in_schema=False)
async def head(
    request: Request, pages: PagesDep, path: Annotated[str, Query(max_length=2000)] = "/", link: LinkToken = None
) -> HTMLResponse:
    """A page's metadata for <head>, for nginx to include."""
    # nginx names the first page so.
    path = path.removesuffix("index.html")
    return HTMLResponse(await head_of(path, str(request.base_url), pages, link), headers={"Cache-Control": "no-store"})


async def head_of(path: str, base_url: str, pages: Pages, link: str | None = None) -> str:
    """A page's metadata for <head>, as HTML: that of a walk if it is finished and listed, otherwise general metadata.

    base_url: the public URL of this deployment, ending in a slash; link: a token that opens a private walk. Never
    raises: pages work during outages.
    """
    base = base_url.rstrip("/")
    if path in PAGES:
        title, description = PAGES[path]
        return "\n".join([*_described(title, description), *_at(base + path, title, description)])
    if walk := await _walk_at(path, pages.listed):
        return "\n".join(_of_walk(walk, base))
    # Any other walk is for those who have its URL.
    hidden = _meta("name", "robots", "noindex")
    if link and (walk := await _walk_at(path, partial(pages.linked, link=link))):
        return "\n".join([*_of_walk(walk, base, f"?link={link}"), hidden])
    return "\n".join([*_described(*PAGES["/"]), hidden])


async def _walk_at(path: str, find: Callable[[str], Awaitable[Walk | None]]) -> Walk | None:
    """The walk of a path, if it can be found and is finished."""
    found = WALK_PAGE.fullmatch(path)
    try:
        walk = await find(found[1]) if found else None
    except (CatalogueUnavailable, WalkNotFound, LinkExpired, Gone):
        return None
    return walk if walk and walk.state is State.DONE else None


def _of_walk(walk: Walk, base: str, query: str = "") -> list[str]:
    """query: what all URLs need to open a private walk."""
    spec = walk.spec
    title = " → ".join(map(_short, (spec.titles[0], *spec.titles[1:][-1:])))
    description = f"A walk of {spec.frames} frames {_way_of(spec)}."
    tags = [*_described(f"{title} · {NAME}", description), *_at(f"{base}/walks/{walk.id}{query}", title, description)]
    if FilmName.SHARED_POSTER in walk.films_ready:
        poster = f"{base}{walk_url(walk.id)}/{FilmName.SHARED_POSTER}{query}"
        alt = " to ".join([f"Halfway from {_short(spec.titles[0])}", *map(_short, spec.titles[1:][-1:])])
        tags += _properties(
            "og:image",
            poster,
            FILM_KINDS[FilmName.SHARED_POSTER].media_type,
            shared_poster_size(spec.width, spec.height),
        )
        tags += [_meta("property", "og:image:alt", alt), _meta("name", "twitter:card", "summary_large_image")]
        tags += [_meta("name", "twitter:image", poster), _meta("name", "twitter:image:alt", alt)]
    if FilmName.MP4 in walk.films_ready:
        film = f"{base}{walk_url(walk.id)}/{FilmName.MP4}{query}"
        tags += _properties("og:video", film, FILM_KINDS[FilmName.MP4].media_type, mp4_size(spec.width, spec.height))
    return tags


def _way_of(spec: WalkSpec) -> str:
    """What a walk's frames show, as the end of a sentence."""
    match spec:
        case BetweenSpec():
            stops = f"{len(spec.stops)} {'prompts and pictures' if spec.pictures else 'prompts'}"
            return f"between {stops} in the latent space of {spec.model}"
        case IntoSpec():
            return "into a picture: a camera moves before it"
        case RestyleSpec():
            return f"from a picture to the same picture in another style, by {spec.model}"
        case ClipSpec():
            return f"along a clip in another style, by {spec.model}"
        case ApartSpec():
            return f"that takes a picture apart: {spec.model} finds what is in it"


def _described(title: str, description: str) -> list[str]:
    return [f"<title>{escape(title)}</title>", _meta("name", "description", description)]


def _at(url: str, title: str, description: str) -> Iterable[str]:
    """The canonical URL of a page, and its metadata for link previews."""
    yield f'<link rel="canonical" href="{escape(url)}">'
    for name, content in (
        ("type", "website"),
        ("site_name", NAME),
        ("url", url),
        ("title", title),
        ("description", description),
    ):
        yield _meta("property", f"og:{name}", content)
    yield _meta("name", "twitter:title", title)
    yield _meta("name", "twitter:description", description)


def _properties(name: str, url: str, media_type: str, size: tuple[int, int]) -> Iterable[str]:
    yield _meta("property", name, url)
    if url.startswith("https:"):
        yield _meta("property", f"{name}:secure_url", url)
    yield _meta("property", f"{name}:type", media_type)
    yield _meta("property", f"{name}:width", str(size[0]))
    yield _meta("property", f"{name}:height", str(size[1]))


def _meta(kind: str, name: str, content: str) -> str:
    return f'<meta {kind}="{name}" content="{escape(content)}">'


def _short(prompt: str) -> str:
    """A prompt on one line, shortened to the length of link previews."""
    line = " ".join(prompt.split())
    return line if len(line) <= LONGEST_PROMPT else f"{line[: LONGEST_PROMPT - 1].rstrip()}…"
