"""What a page of the gallery says of itself to those who run no script: title, description, Open Graph, Twitter.

Behind nginx it is included into the page over HTTP, embedded it is put there by site.py. Prompts are hostile text.
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
ABOUT: Final = "Two prompts go in, an animation comes out that walks from one to the other inside a diffusion model."
# By path: a title, and what is said of the page.
PAGES: Final = {
    "/": (NAME, ABOUT),
    "/gallery": (f"Gallery · {NAME}", "Every walk so far, newest first."),
    "/about": (
        f"About · {NAME}",
        "How a walk works, what paints it, its limits, and how to ask for one from a script.",
    ),
}
WALK_PAGE: Final = re.compile("/walks/([0-9a-f]{32})")
LONGEST_PROMPT: Final = 100

router = APIRouter()


@router.get("/head", include_in_schema=False)
async def head(
    request: Request, gallery: GalleryDep, path: Annotated[str, Query(max_length=2000)] = "/"
) -> HTMLResponse:
    """A page's part of <head>, for nginx to include."""
    # What nginx names the first page by.
    path = path.removesuffix("index.html")
    return HTMLResponse(await head_of(path, str(request.base_url), gallery), headers={"Cache-Control": "no-store"})


async def head_of(path: str, base_url: str, gallery: Gallery) -> str:
    """A page's part of <head> as HTML: a walk's own where it hangs finished on the wall, else a plain one.

    base_url: where the visitor finds this deployment, with a slash at its end. Raises nothing: a page is shown whatever
    is away.
    """
    base = base_url.rstrip("/")
    if path in PAGES:
        title, said = PAGES[path]
        return "\n".join([*_described(title, said), *_at(base + path, title, said)])
    walk = await _walk_on_wall(path, gallery)
    # A walk that is not on the wall is for those who were given its url.
    return "\n".join(_of_walk(walk, base) if walk else [*_described(*PAGES["/"]), _meta("name", "robots", "noindex")])


async def _walk_on_wall(path: str, gallery: Gallery) -> Walk | None:
    found = WALK_PAGE.fullmatch(path)
    if not found:
        return None
    try:
        walk = await gallery.on_wall(found[1])
    except CatalogueUnavailable:
        return None
    return walk if walk and walk.state is State.DONE else None


def _of_walk(walk: Walk, base: str) -> list[str]:
    spec = walk.spec
    title = f"{_short(spec.stops[0])} → {_short(spec.stops[-1])}"
    said = f"A walk of {spec.frames} frames between {len(spec.stops)} prompts in the latent space of {spec.model}."
    tags = [*_described(f"{title} · {NAME}", said), *_at(f"{base}/walks/{walk.id}", title, said)]
    if FilmName.SHARED_POSTER in walk.films:
        poster = f"{base}{walk_url(walk.id)}/{FilmName.SHARED_POSTER}"
        alt = f"Halfway from {_short(spec.stops[0])} to {_short(spec.stops[-1])}"
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


def _described(title: str, said: str) -> list[str]:
    return [f"<title>{escape(title)}</title>", _meta("name", "description", said)]


def _at(url: str, title: str, said: str) -> Iterable[str]:
    """Where a page is to be found, and how it reads elsewhere."""
    yield f'<link rel="canonical" href="{escape(url)}">'
    for name, content in (
        ("type", "website"),
        ("site_name", NAME),
        ("url", url),
        ("title", title),
        ("description", said),
    ):
        yield _meta("property", f"og:{name}", content)
    yield _meta("name", "twitter:title", title)
    yield _meta("name", "twitter:description", said)


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
    """A prompt in one line, and no longer than links are shown."""
    line = " ".join(prompt.split())
    return line if len(line) <= LONGEST_PROMPT else f"{line[: LONGEST_PROMPT - 1].rstrip()}…"
