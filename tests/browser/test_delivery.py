"""What the server sends: security headers, page metadata for crawlers, and how many bytes."""

import re

import httpx
import pytest

from momalisa_api.web.routes.security_headers import SECURITY
from tests.support.gallery import ALL_SCRIPTS, BUDGETS, head_of, loaded_at_first, sent
from tests.support.gallery_deployment import DIST

FIRST_SCREEN = 350 * 1024
SERVERS = ["nginx", "embedded"]


def url_of(deployment, server):
    return deployment.url if server == "nginx" else deployment.direct.url


@pytest.mark.parametrize("ending", BUDGETS)
def test_the_build_stays_within_its_size_budget(deployment, ending):
    """Without a check, the size would grow unnoticed."""
    files = {path.name: sent(path) for path in loaded_at_first(DIST, ending)}
    assert files
    assert sum(files.values()) <= BUDGETS[ending], files


def test_what_loads_later_has_a_budget_too(deployment):
    """Otherwise everything would move there."""
    files = {path.name: sent(path) for path in DIST.rglob("*.js")}
    assert sum(files.values()) <= ALL_SCRIPTS, files


def test_the_first_screen_of_the_gallery_is_small(visit, deployment):
    """Everything that loads before any scrolling: page, script, style, font, list, posters."""
    visitor = visit("/gallery", viewport={"width": 1280, "height": 800})
    visitor.page.wait_for_load_state("networkidle")
    sizes = {}
    for request in visitor.requests:
        if request.response():
            size = request.sizes()
            sizes[request.url] = size["responseBodySize"] + size["responseHeadersSize"]
    assert len([url for url in sizes if url.endswith("poster.webp")]) >= 8
    assert sum(sizes.values()) <= FIRST_SCREEN, sizes


@pytest.mark.parametrize("server", SERVERS)
def test_pages_and_assets_have_the_security_headers(deployment, walk, server):
    """Checked on the responses that a browser gets."""
    pages = ["/", "/gallery", "/about", "/data", "/new/into", f"/walks/{walk['id']}", f"/walks/{'0' * 32}", "/no/where"]
    pages += [f"/{path.relative_to(DIST).as_posix()}" for path in DIST.glob("assets/*")]
    for page in pages:
        answer = httpx.get(
            url_of(deployment, server) + page, headers={"Accept": "text/html,*/*;q=0.8"}, trust_env=False
        )
        assert answer.status_code == (404 if page == "/no/where" else 200)
        assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY, page


@pytest.mark.parametrize("server", SERVERS)
def test_the_browser_enforces_the_content_security_policy(visit, deployment, server):
    """A header with a syntax error would be ignored."""
    visitor = visit("/about", url_of(deployment, server))
    visitor.allow_console("Content Security Policy|Trusted")
    done = visitor.page.evaluate("""() => {
      const tried = {};
      const attempt = (name, act) => {
        try { act(); tried[name] = "done"; } catch (error) { tried[name] = error.name; }
      };
      attempt("markup", () => { document.createElement("p").innerHTML = "<b>hit</b>"; });
      attempt("policy", () => trustedTypes.createPolicy("another", {}));
      const script = document.createElement("script");
      attempt("script", () => { script.text = "window.hit = 1"; });
      const line = document.createElement("p");
      line.setAttribute("style", "color: red");
      document.body.append(line);
      tried.style = line.style.color;
      line.remove();
      return tried;
    }""")
    assert done == {"markup": "TypeError", "policy": "TypeError", "script": "TypeError", "style": ""}
    visitor.clear_violations()


def test_crawlers_get_the_same_metadata_from_both_servers(deployment, walk):
    """A shared link shows a preview of the walk."""
    heads = []
    for server in SERVERS:
        html = httpx.get(
            f"{url_of(deployment, server)}/walks/{walk['id']}", headers={"Host": "moma.example:81"}, trust_env=False
        ).text
        heads.append(head_of(html))
    assert heads[0].meta == heads[1].meta
    meta = heads[0].meta
    assert heads[0].title == "a red sunburst on yellow → a blue spiral on white · MoMALisa"
    assert heads[0].canonical == meta["og:url"] == f"http://moma.example:81/walks/{walk['id']}"
    assert meta["og:image"].endswith("/poster.jpg")
    assert meta["twitter:card"] == "summary_large_image"
    for name, media_type in (("og:image", "image/jpeg"), ("og:video", "video/mp4")):
        path = re.sub("^http://moma.example:81", "", meta[name])
        found = httpx.get(deployment.url + path, trust_env=False)
        assert found.headers["content-type"] == media_type == meta[f"{name}:type"]


def test_the_script_keeps_the_title_that_the_server_sent(visit, walk):
    """Otherwise the title would change while the page loads."""
    visitor = visit("/about")
    assert visitor.page.title() == "About · MoMALisa"
    visitor.go("/gallery")
    assert visitor.page.title() == "Gallery · MoMALisa"
    assert visitor.page.locator("head title").count() == 1
    visitor.go(f"/walks/{walk['id']}")
    visitor.await_state("done")
    assert visitor.page.locator("head title").count() == 1
