"""The gallery, served by the api itself where no nginx stands before it: pages, assets, and what else its folder holds.

The folder is read once, at the start, so that a page and its assets always belong together. It decides nothing that
frontend/nginx.conf decides otherwise.
"""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from momalisa_api.web.routes.deps import GalleryDep
from momalisa_api.web.routes.negotiation import preferred
from momalisa_api.web.routes.page_meta import PAGES, WALK_PAGE, head_of
from momalisa_api.web.routes.security_headers import IMMUTABLE, LOOK_AGAIN, SECURITY

INCLUDE: Final = '<!--#include virtual="/api/v1/head?path=$document_uri" -->'
# By ending; a machine's own list may lack the newer ones.
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
PACKED_WELL: Final = (".css", ".html", ".js", ".json", ".svg", ".txt", ".webmanifest")


@dataclass(frozen=True)
class File:
    """A file of the gallery, with what is smaller for those who can unpack it."""

    content: bytes
    packed: bytes | None
    media_type: str
    caching: str

    @classmethod
    def read(cls, path: Path, caching: str) -> "File":
        content = path.read_bytes()
        packed = gzip.compress(content, mtime=0) if path.suffix in PACKED_WELL else None
        return cls(content, packed, TYPES.get(path.suffix, "application/octet-stream"), caching)

    def answer(self, request: Request) -> Response:
        headers = {"Cache-Control": self.caching, "ETag": f'W/"{hashlib.sha256(self.content).hexdigest()[:32]}"'}
        if headers["ETag"] in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers | SECURITY)
        return _packed(self.content, self.packed, request, headers | {"Content-Type": self.media_type})


def site(folder: Path) -> APIRouter:
    """Routes of the gallery built into a folder; include them after all others.

    Raises SystemExit, with what to do, where there is no gallery.
    """
    shell, files = _read(folder)
    router = APIRouter(include_in_schema=False)

    async def page(request: Request, gallery: GalleryDep, path: str = "") -> Response:
        path = f"/{path}"
        if found := files.get(path):
            return found.answer(request)
        known = path in PAGES or WALK_PAGE.fullmatch(path)
        if not known and (_is_not_the_gallery_s(path) or not _wants_page(request)):
            raise HTTPException(404)
        content = shell.replace(INCLUDE, await head_of(path, str(request.base_url), gallery)).encode()
        headers = {"Cache-Control": LOOK_AGAIN, "Content-Type": TYPES[".html"]}
        return _packed(content, gzip.compress(content), request, headers, 200 if known else 404)

    router.add_api_route("/{path:path}", page, methods=["GET"])
    return router


def _read(folder: Path) -> tuple[str, dict[str, File]]:
    try:
        shell = (folder / "index.html").read_text(encoding="utf-8")
    except OSError as error:
        raise SystemExit(
            f"No gallery in {folder}: {error}\nBuild it with `make gallery`, or unset MOMALISA_GALLERY."
        ) from error
    if INCLUDE not in shell:
        raise SystemExit(f"{folder / 'index.html'} is no page of the gallery: it lacks the line {INCLUDE}")
    files: dict[str, File] = {}
    for path in sorted(folder.rglob("*")):
        name = f"/{path.relative_to(folder).as_posix()}"
        if path.is_file() and name != "/index.html":
            files[name] = File.read(path, IMMUTABLE if name.startswith("/assets/") else LOOK_AGAIN)
    return shell, files


def _is_not_the_gallery_s(path: str) -> bool:
    """Calls to the api that nobody answers, and assets that are gone, are no pages."""
    return path.startswith(("/api/", "/assets/"))


def _wants_page(request: Request) -> bool:
    return preferred(request.headers.get("Accept"), ("application/problem+json", "text/html")) == "text/html"


def _packed(
    content: bytes, packed: bytes | None, request: Request, headers: dict[str, str], status: int = 200
) -> Response:
    """An answer, gzipped where that is smaller and the caller takes it."""
    headers = headers | SECURITY
    if packed is not None:
        headers["Vary"] = "Accept-Encoding"
        if len(packed) < len(content) and "gzip" in request.headers.get("Accept-Encoding", ""):
            return Response(packed, status, headers | {"Content-Encoding": "gzip"})
    return Response(content, status, headers)
