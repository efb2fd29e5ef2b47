"""The gallery, served by the api itself if there is no nginx: pages, assets and the other files of its folder.

The folder is read once at the start, so that a page and its assets always match. The rules are those of
frontend/nginx.conf.
"""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException

from momalisa_api.web.routes.negotiation import preferred
from momalisa_api.web.routes.page_meta import PAGES, WALK_PAGE, PagesDep, head_of
from momalisa_api.web.routes.security_headers import IMMUTABLE, PRIVATE_PAGE, REVALIDATE, SECURITY

INCLUDE: Final = '<!--#include virtual="/api/v1/head?path=$document_uri&link=$arg_link" -->'
# By suffix: the list of the operating system may lack newer ones.
TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
# For an API without a gallery: frontend/public/robots.txt is the same, and a test compares the two.
ROBOTS: Final = """\
# Crawlers may fetch pages, and what link previews show. A GET of the API can start a walk.
User-agent: *
Disallow: /api/
Allow: /api/v1/walks/*/poster.jpg
Allow: /api/v1/walks/*/walk.mp4
"""
MIN_PACKED_BYTES: Final = 500
COMPRESSIBLE: Final = (".css", ".html", ".js", ".json", ".svg", ".txt", ".webmanifest")


class _OutsideApi(Convertor[str]):
    """Any path but those of the API: an unknown one of these must not look like a page that can be fetched."""

    regex = "(?!api/).*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("outside_api", _OutsideApi())


@dataclass(frozen=True)
class StaticFile:
    """A file of the gallery, with a gzipped copy if it compresses."""

    content: bytes
    packed: bytes | None
    media_type: str
    caching: str

    @classmethod
    def read(cls, path: Path, caching: str) -> "StaticFile":
        content = path.read_bytes()
        worth_it = path.suffix in COMPRESSIBLE and len(content) >= MIN_PACKED_BYTES
        packed = gzip.compress(content, mtime=0) if worth_it else None
        return cls(content, packed, TYPES.get(path.suffix, "application/octet-stream"), caching)

    def answer(self, request: Request) -> Response:
        headers = {"Cache-Control": self.caching, "ETag": f'W/"{hashlib.sha256(self.content).hexdigest()[:32]}"'}
        if headers["ETag"] in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers | SECURITY)
        return _packed(self.content, self.packed, request, headers | {"Content-Type": self.media_type})


def gallery_routes(folder: Path) -> APIRouter:
    """Routes of the gallery in a folder; include them after all others.

    Raises SystemExit, with what to do, if the folder has no gallery.
    """
    shell, files = _read(folder)
    router = APIRouter(include_in_schema=False)

    async def page(request: Request, pages: PagesDep, path: str = "") -> Response:
        path = f"/{path}"
        if found := files.get(path):
            return found.answer(request)
        known = path in PAGES or WALK_PAGE.fullmatch(path)
        if not known and (path.startswith("/assets/") or not _wants_page(request)):
            raise HTTPException(404)
        link = request.query_params.get("link")
        content = shell.replace(INCLUDE, await head_of(path, str(request.base_url), pages, link)).encode()
        headers = {"Cache-Control": PRIVATE_PAGE if link else REVALIDATE, "Content-Type": TYPES[".html"]}
        return _packed(content, gzip.compress(content), request, headers, 200 if known else 404)

    router.add_api_route("/{path:outside_api}", page, methods=["GET"])
    return router


def _read(folder: Path) -> tuple[str, dict[str, StaticFile]]:
    try:
        shell = (folder / "index.html").read_text(encoding="utf-8")
    except OSError as error:
        raise SystemExit(
            f"No gallery in {folder}: {error}\nBuild it with `make gallery`, or unset MOMALISA_GALLERY."
        ) from error
    if INCLUDE not in shell:
        raise SystemExit(f"{folder / 'index.html'} is not a page of the gallery: the line {INCLUDE} is missing")
    files: dict[str, StaticFile] = {}
    for path in sorted(folder.rglob("*")):
        name = f"/{path.relative_to(folder).as_posix()}"
        if path.is_file() and name != "/index.html":
            files[name] = StaticFile.read(path, IMMUTABLE if name.startswith("/assets/") else REVALIDATE)
    return shell, files


def _wants_page(request: Request) -> bool:
    return preferred(request.headers.get("Accept"), ("application/problem+json", "text/html")) == "text/html"


def _packed(
    content: bytes, packed: bytes | None, request: Request, headers: dict[str, str], status: int = 200
) -> Response:
    """A response, gzipped if that is smaller and the client accepts it."""
    headers = headers | SECURITY
    if packed is not None:
        headers["Vary"] = "Accept-Encoding"
        if len(packed) < len(content) and "gzip" in request.headers.get("Accept-Encoding", ""):
            return Response(packed, status, headers | {"Content-Encoding": "gzip"})
    return Response(content, status, headers)
