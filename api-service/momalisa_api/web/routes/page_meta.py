"""Metadata of the gallery's pages for clients that run no scripts: title, description, Open Graph, Twitter.

nginx includes it into a page over HTTP; without nginx, static.py inserts it. Prompts are untrusted text.
"""

import re
from collections.abc import Iterable
from html import escape
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from momalisa_api.films.films import mp4_size, shared_poster_size
from momalisa_api.films.kinds import FILM_KINDS, FilmName
from momalisa_api.problems import CatalogueUnavailable
from momalisa_api.store.gallery import Gallery
from momalisa_api.walks.walk import State, Walk
from momalisa_api.web.routes.deps import GalleryDep
from momalisa_api.web.routes.schemas import walk_url

NAME: Final = "MoMALisa"
TAGLINE: Final = "Enter two prompts and get an animation that walks from one to the other inside a diffusion model."
# Title and description by path.
PAGES: Final = {
    "/": (NAME, TAGLINE),
    "/gallery": (f"Gallery · {NAME}", "All listed walks, newest first."),
    "/about": (
        f"About · {NAME}",
        "How a walk works, the model behind it, its limits, and how to request one from a script.",
    ),
}
WALK_PAGE: Final = re.compile("/walks/([0-9a-f]{32})")
LONGEST_PROMPT: Final = 100

router = APIRouter()


@router.get("/head", include_in_schema=False)
async def head(
    request: Request, gallery: GalleryDep, path: Annotated[str, Query(max_length=2000)] = "/"
) -> HTMLResponse:
    """A page's metadata for <head>, for nginx to include."""
    # nginx names the first page so.
    path = path.removesuffix("index.html")
    return HTMLResponse(await head_of(path, str(request.base_url), gallery), headers={"Cache-Control": "no-store"})


async def head_of(path: str, base_url: str, gallery: Gallery) -> str:
    """A page's metadata for <head>, as HTML: that of a walk if it is finished and listed, otherwise general metadata.

    base_url: the public URL of this deployment, ending in a slash. Never raises: pages work during outages.
    """
    base = base_url.rstrip("/")
    if path in PAGES:
        title, description = PAGES[path]
        return "\n".join([*_described(title, description), *_at(base + path, title, description)])
    walk = await _listed_walk(path, gallery)
    # A walk that is not listed is for those who have its URL.
    return "\n".join(_of_walk(walk, base) if walk else [*_described(*PAGES["/"]), _meta("name", "robots", "noindex")])


async def _listed_walk(path: str, gallery: Gallery) -> Walk | None:
    found = WALK_PAGE.fullmatch(path)
    if not found:
        return None
    try:
        walk = await gallery.listed_walk(found[1])
    except CatalogueUnavailable:
        return None
    return walk if walk and walk.state is State.DONE else None


def _of_walk(walk: Walk, base: str) -> list[str]:
    spec = walk.spec
    title = f"{_short(spec.titles[0])} → {_short(spec.titles[-1])}"
    kind = "prompts and pictures" if spec.pictures else "prompts"
    description = (
        f"A walk of {spec.frames} frames between {len(spec.stops)} {kind} in the latent space of {spec.model}."
    )
    tags = [*_described(f"{title} · {NAME}", description), *_at(f"{base}/walks/{walk.id}", title, description)]
    if FilmName.SHARED_POSTER in walk.films:
        poster = f"{base}{walk_url(walk.id)}/{FilmName.SHARED_POSTER}"
        alt = f"Halfway from {_short(spec.titles[0])} to {_short(spec.titles[-1])}"
        tags += _properties(
            "og:image",
            poster,
            FILM_KINDS[FilmName.SHARED_POSTER].media_type,
            shared_poster_size(spec.width, spec.height),
        )
        tags += [_meta("property", "og:image:alt", alt), _meta("name", "twitter:card", "summary_large_image")]
        tags += [_meta("name", "twitter:image", poster), _meta("name", "twitter:image:alt", alt)]
    if FilmName.MP4 in walk.films:
        film = f"{base}{walk_url(walk.id)}/{FilmName.MP4}"
        tags += _properties("og:video", film, FILM_KINDS[FilmName.MP4].media_type, mp4_size(spec.width, spec.height))
    return tags


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
