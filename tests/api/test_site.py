"""The gallery as served by the API: pages, their metadata, and headers."""

import re

import pytest

from momalisa_api.app import create_app
from momalisa_api.web.routes.security_headers import SECURITY
from momalisa_api.web.routes.static import INCLUDE, ROBOTS
from tests.support.factories import ended, running
from tests.support.gallery import FONT, SCRIPT, SHELL, Head, make_gallery
from tests.support.processes import REPOSITORY

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a <giraffe>", "end": "a battleship", "frames": 4, "spacing": "uniform"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types svelte-trusted-html"
)


@pytest.fixture
def with_gallery(settings, tmp_path):
    """Settings with a gallery."""
    return settings.model_copy(update={"gallery": make_gallery(tmp_path / "dist")})


@pytest.mark.parametrize("path", ["/", "/gallery?q=red", "/about", f"/walks/{'0' * 32}"])
async def test_every_page_is_the_shell_with_its_metadata(with_gallery, fleet, path):
    """Reload and Back need pages from the server, not only from the script."""
    async with running(with_gallery, fleet) as client:
        page = await client.get(path, headers=BROWSER)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    assert INCLUDE not in page.text
    assert f'src="{SCRIPT}"' in page.text
    assert Head(page.text).tags.count("title") == 1


async def test_a_shared_walk_is_described_in_its_page(with_gallery, fleet):
    """Crawlers run no script."""
    async with running(with_gallery, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        page = await client.get(f"/walks/{walk['id']}", headers=BROWSER)
    assert Head(page.text).meta["og:title"] == "a <giraffe> → a battleship"
    assert "<giraffe>" not in page.text


async def test_pages_and_assets_carry_the_security_headers(with_gallery, fleet):
    """The exact content security policy. The API's documentation page needs its own scripts."""
    assert SECURITY["Content-Security-Policy"] == POLICY
    async with running(with_gallery, fleet) as client:
        for path in ("/", "/nowhere", SCRIPT, FONT, "/robots.txt"):
            answer = await client.get(path, headers=BROWSER)
            assert SECURITY.items() <= {name: answer.headers.get(name) for name in SECURITY}.items(), path
        docs = await client.get("/api/docs", headers=BROWSER)
    assert docs.status_code == 200
    assert "content-security-policy" not in docs.headers


async def test_assets_are_immutable_typed_and_compressed(with_gallery, fleet):
    """Browsers cache them for good: their names contain a hash. A script with another type would not run."""
    async with running(with_gallery, fleet) as client:
        script = await client.get(SCRIPT)
        bare = await client.get(SCRIPT, headers={"Accept-Encoding": "identity"})
        font = await client.get(FONT)
        again = await client.get("/favicon.svg")
        same = await client.get("/favicon.svg", headers={"If-None-Match": again.headers["etag"]})
        manifest = await client.get("/manifest.webmanifest")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert script.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in script.headers["vary"]
    assert int(script.headers["content-length"]) < len(bare.content) / 10
    assert script.text == bare.text
    assert (font.headers["content-type"], font.content[:4]) == ("font/woff2", b"wOF2")
    assert manifest.headers["content-type"] == "application/manifest+json"
    assert (again.headers["content-type"], again.headers["cache-control"]) == ("image/svg+xml", "no-cache")
    assert (same.status_code, same.content) == (304, b"")


async def test_an_unknown_path_is_a_page_for_browsers_and_a_problem_for_scripts(with_gallery, fleet):
    """A mistyped address shows the gallery's navigation; unknown API paths and files are never pages."""
    async with running(with_gallery, fleet) as client:
        page = await client.get("/walks/not-an-id", headers=BROWSER)
        script = await client.get("/nowhere")
        others = [await client.get(path, headers=BROWSER) for path in ("/api/v1/nothing", "/assets/gone-1.js")]
        outside = await client.get("/%2e%2e/card.json", headers=BROWSER)
        posted = await client.post("/gallery")
        nothing = await client.post("/api/v1/nothing")
        known = await client.post("/api/v1/model")
        head = await client.head("/about")
    assert (page.status_code, Head(page.text).title) == (404, "MoMALisa")
    assert page.headers["cache-control"] == "no-cache"
    for answer in (script, *others):
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert (outside.status_code, posted.status_code, known.status_code) == (404, 405, 405)
    assert (nothing.status_code, posted.headers["allow"], known.headers["allow"]) == (404, "GET, HEAD", "GET, HEAD")
    assert "test-model" not in outside.text
    assert (head.status_code, head.content) == (200, b"")


async def test_without_a_gallery_visitors_are_redirected_to_the_docs(settings, fleet):
    """Behind nginx, or if the gallery is not built."""
    async with running(settings, fleet) as client:
        assert (await client.get("/")).headers["location"] == "/api/docs"
        assert (await client.get("/gallery", headers=BROWSER)).headers["content-type"] == "application/problem+json"


async def test_crawlers_are_kept_off_the_api(settings, with_gallery, fleet):
    """A GET of the API can start a walk. Pages and what link previews show stay readable."""
    for given in (settings, with_gallery):
        async with running(given, fleet) as client:
            answer = await client.get("/robots.txt")
            walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert answer.text == ROBOTS
        rules = [line.split(": ") for line in answer.text.splitlines() if ": " in line]
        allowed = {path: rule_for(path, rules) for path in ("/", f"/walks/{walk['id']}", *walk["films"].values())}
        refused = {path: rule_for(path, rules) for path in ("/api/v1/walk?start=a&end=b", "/api/v1/walks", walk["url"])}
        assert set(refused.values()) == {"Disallow"}
        assert {path.rpartition("/")[2] for path, rule in allowed.items() if rule == "Disallow"} == {
            "preview.mp4",
            "poster.webp",
            "walk.gif",
        }


def test_both_copies_of_the_rules_for_crawlers_are_the_same():
    """The gallery has its own file, which nginx serves."""
    assert (REPOSITORY / "frontend" / "public" / "robots.txt").read_text() == ROBOTS


def rule_for(path: str, rules: list[list[str]]) -> str:
    """The rule for a path: the longest one that matches (RFC 9309, section 2.2.2)."""
    matching = [
        (len(pattern), name)
        for name, pattern in rules
        if name in ("Allow", "Disallow") and re.match(re.escape(pattern).replace(r"\*", ".*"), path)
    ]
    return max(matching, default=(0, "Allow"))[1]


@pytest.mark.parametrize("shell", [None, SHELL.replace(INCLUDE, "")])
def test_a_folder_without_a_gallery_ends_the_start(settings, tmp_path, shell):
    """Otherwise pages would have no metadata, which only crawlers would notice."""
    (tmp_path / "dist").mkdir()
    if shell:
        (tmp_path / "dist" / "index.html").write_text(shell)
    with pytest.raises(SystemExit, match="gallery"):
        create_app(settings.model_copy(update={"gallery": tmp_path / "dist", "replicas": "http://replica-1"}))
