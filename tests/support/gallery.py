"""A minimal fake of a built gallery, and a parser for the metadata of a page."""

import gzip
from html.parser import HTMLParser
from pathlib import Path

from momalisa_api.web.routes.static import INCLUDE, ROBOTS

# What a page loads at first, in bytes; scripts and styles after gzip.
BUDGETS = {".js": 52 * 1024, ".css": 8 * 1024, ".woff2": 35 * 1024}
# All scripts together, with those of what not every visitor uses: the forms of four kinds of walks, cropping a picture.
ALL_SCRIPTS = 96 * 1024

SCRIPT = "/assets/index-D1a2b3C4.js"
FONT = "/assets/libre-E5f6.woff2"
SHELL = (
    f'<!doctype html>\n<html lang="en">\n<head>\n{INCLUDE}\n<script type="module" src="{SCRIPT}"></script>\n</head>\n'
)


def make_gallery(folder: Path) -> Path:
    """The folder of a built gallery."""
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(f"{SHELL}<body><main></main></body>\n</html>\n")
    (folder / SCRIPT[1:]).write_text("export const walls = [1, 2, 3];\n" * 200)
    (folder / FONT[1:]).write_bytes(b"wOF2" + bytes(range(256)))
    (folder / "favicon.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    (folder / "manifest.webmanifest").write_text('{"name": "MoMALisa"}')
    (folder / "robots.txt").write_text(ROBOTS)
    return folder


class Head(HTMLParser):
    """Title, metadata and links of a page, as an HTML parser reads them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.title = ""
        self.canonical: str | None = None
        self.meta: dict[str, str] = {}
        self._in_title = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attributes)
        self._in_title = tag == "title"
        if tag == "meta":
            assert set(given) in ({"name", "content"}, {"property", "content"}), given
            self.meta[given.get("name") or given.get("property") or ""] = given["content"] or ""
        if tag == "link":
            self.canonical = given["href"]

    def handle_endtag(self, tag: str) -> None:
        self._in_title = self._in_title and tag != "title"

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data


def head_of(html: str) -> Head:
    """The part of <head> that the API fills in; the rest is the same for every page."""
    return Head(html[html.index("<title>") : html.index("</head>")].partition('<link rel="icon"')[0])


def loaded_at_first(dist: Path, ending: str) -> list[Path]:
    """The files of a built gallery that its page names, and the fonts, which its styles name."""
    page = (dist / "index.html").read_text()
    return [path for path in sorted(dist.rglob(f"*{ending}")) if path.name in page or ending == ".woff2"]


def sent(path: Path) -> int:
    """The size of a built file as it is sent: gzipped, except for fonts. In bytes."""
    content = path.read_bytes()
    return len(content if path.suffix == ".woff2" else gzip.compress(content, 6))
