"""frontend/nginx.conf in a real nginx, before a real api: it serves as the api does where it stands alone."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from momalisa_api.app import create_app
from momalisa_api.server import uvicorn_config
from momalisa_api.settings import Settings
from momalisa_api.web.routes.security_headers import SECURITY
from momalisa_api.web.routes.static import INCLUDE, TYPES
from tests.support.factories import FakeReplica, Fleet, write_card
from tests.support.gallery import FONT, SCRIPT, Head, make_gallery
from tests.support.nginx import TEMPLATE, nginx, read_by_nginx, render
from tests.support.processes import free_port, wait_until

WISH = {"start": "a <giraffe>", "end": "a battleship", "frames": 4, "spacing": "uniform"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
DIRECTIVE = re.compile(r'^ {8}add_header (\S+) (?:"([^"]*)"|(\S+)) always;$', re.MULTILINE)


@dataclass
class House:
    """An nginx, and the api behind it, which serves the same gallery by itself."""

    outside: httpx.Client
    inside: httpx.Client
    replica: FakeReplica
    folder: Path
    gallery: Path

    @property
    def api(self) -> str:
        return self.inside.base_url.netloc.decode()

    def ask(self, **wish: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.outside.post("/api/v1/walks", json=WISH | wish).json()
        return found

    def walked(self, **wish: Any) -> dict[str, Any]:
        url = self.ask(**wish)["url"]
        wait_until(lambda: self.outside.get(url).json()["state"] == "done")
        found: dict[str, Any] = self.outside.get(url).json()
        return found


@contextmanager
def api(folder: Path, fleet: Fleet, port: int, gallery: Path) -> Iterator[str]:
    """The api over a made-up fleet, served as a process serves it."""
    stored = {"bucket": str(folder / "bucket"), "database_url": f"sqlite:///{folder}/catalogue.sqlite"}
    settings = Settings(
        model_card=write_card(folder), replicas=fleet.addresses, gallery=gallery, port=port, live_poll_s=0.02, **stored
    )
    config = uvicorn_config(create_app(settings, fleet.client), settings)
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    gallery = make_gallery(folder / "dist")
    fleet = Fleet()
    replica = fleet.add()
    with api(folder, fleet, free_port(), gallery) as address, nginx(folder, gallery, address) as url:
        options: dict[str, Any] = {"trust_env": False, "timeout": 30}
        with (
            httpx.Client(base_url=url, **options) as outside,
            httpx.Client(base_url=f"http://{address}", **options) as inside,
        ):
            yield House(outside, inside, replica, folder, gallery)


def test_nginx_takes_the_configuration(tmp_path):
    """A typing error would be found by whoever rolls it out."""
    said = read_by_nginx(render(tmp_path, make_gallery(tmp_path / "dist"), "api:8000", port=free_port()))
    assert said.returncode == 0, said.stderr
    assert "[warn]" not in said.stderr


def test_both_say_the_same_headers_and_types():
    """One of them is what the tests in the browser see, the other what visitors get."""
    template = TEMPLATE.read_text()
    found = {name: quoted or bare for name, quoted, bare in DIRECTIVE.findall(template)}
    assert found.pop("Cache-Control") == "$caching"
    assert found == SECURITY
    [types] = re.findall(r"types \{([^}]*)\}", template)
    assert {f".{ending}": media_type for media_type, ending in re.findall(r"(\S+) (\S+);", types)} == {
        ending: media_type.removesuffix("; charset=utf-8") for ending, media_type in TYPES.items()
    }


PLACES: dict[str, Callable[[str], str]] = {
    "first": lambda walk: "/",
    "gallery": lambda walk: "/gallery?q=%3Cb%3E",
    "about": lambda walk: "/about",
    "walk": lambda walk: f"/walks/{walk}",
    "unknown walk": lambda walk: f"/walks/{'0' * 32}",
    "nowhere": lambda walk: "/no/where",
    "shell": lambda walk: "/index.html",
    "script": lambda walk: SCRIPT,
    "font": lambda walk: FONT,
    "icon": lambda walk: "/favicon.svg",
    "manifest": lambda walk: "/manifest.webmanifest",
    "robots": lambda walk: "/robots.txt",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_page_is_the_same_behind_nginx_and_without_it(house, place):
    """Two homes, one gallery: what is tried in one holds in the other."""
    path = PLACES[place](house.walked()["id"])
    host = {"Host": "moma.example:8080"}
    inner, outer = (client.get(path, headers=BROWSER | host) for client in (house.inside, house.outside))
    assert outer.status_code == inner.status_code
    for name in ("content-type", "cache-control", "content-encoding", *SECURITY):
        assert outer.headers.get(name) == inner.headers.get(name), name
        assert len(outer.headers.get_list(name)) <= 1
    assert outer.content.split() == inner.content.split()
    assert INCLUDE not in outer.text
    if place == "walk":
        assert Head(outer.text).meta["og:url"] == f"http://moma.example:8080{path}"
    assert outer.headers["server"] == "nginx"


def test_a_missing_asset_is_not_kept_for_good(house):
    """One that is asked for in the middle of a roll-out would be missing for a year."""
    gone = house.outside.get("/assets/gone-12345678.js")
    assert (gone.status_code, gone.headers["cache-control"]) == (404, "no-cache")


def test_what_is_the_operators_is_not_shown(house):
    """Metrics tell strangers how busy a place is; the line that fills in heads is nginx's own."""
    for path in (
        "/metrics",
        "/healthz",
        "/readyz",
        "/not-found",
        "/nginx.conf",
        "/../card.json",
        "/assets/../../card.json",
    ):
        answer = house.outside.get(path)
        assert answer.status_code in (400, 404), path
        assert "momalisa_" not in answer.text
        assert "made-up" not in answer.text
    walk = house.walked()["id"]
    assert walk not in house.outside.get("/api/v1/head", params={"path": f"/walks/{walk}"}).text


def test_events_arrive_as_they_come(house):
    """A buffer in between would keep them until the walk is over."""
    house.replica.holds = True
    try:
        walk = house.ask(seed=11)
        with house.outside.stream("GET", f"{walk['url']}/events", timeout=10) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = stream.iter_lines()
            assert any(line.startswith("data: ") for line in lines)
            house.outside.delete(walk["url"])
            assert "cancelled" in "".join(lines)
    finally:
        house.replica.holds = False


def test_a_line_is_held_until_the_walk_is_done(house):
    """`wait` is worth nothing if something on the way gives up."""
    answer = house.outside.get("/api/v1/walk?start=one&end=two&frames=5&wait=25")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/gif")


def test_films_come_whole_and_in_pieces(house):
    """A player that seeks asks for ranges; what never changes is kept for good."""
    film = house.walked()["films"]["walk.mp4"]
    whole, piece = house.outside.get(film), house.outside.get(film, headers={"Range": "bytes=10-19"})
    assert (piece.status_code, piece.content) == (206, whole.content[10:20])
    assert whole.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "content-security-policy" not in whole.headers
    same = house.outside.get(film, headers={"If-None-Match": whole.headers["etag"]})
    assert same.status_code == 304


def test_the_api_refuses_in_its_own_words(house):
    """Clients read problems, not nginx's pages."""
    large = house.outside.post("/api/v1/walks", content=b" " * 300_000, headers={"Content-Type": "application/json"})
    unknown = house.outside.get(f"/api/v1/walks/{'0' * 32}")
    assert (large.status_code, unknown.status_code) == (413, 404)
    assert {large.headers["content-type"], unknown.headers["content-type"]} == {"application/problem+json"}
    docs = house.outside.get("/api/docs", headers=BROWSER)
    assert docs.status_code == 200
    assert "content-security-policy" not in docs.headers


@pytest.mark.parametrize(("trusted", "scheme"), [("0.0.0.0/32", "http"), ("127.0.0.1/32", "https")])
def test_only_a_proxy_that_is_trusted_says_where_a_visitor_comes_from(house, tmp_path, trusted, scheme):
    """Anybody could send it; before nginx stands a load balancer that ends TLS, and cookies want to know."""
    claims = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7", "X-Forwarded-Host": "evil.example"}
    walk = house.walked()
    with nginx(tmp_path, house.gallery, house.api, TRUSTED_PROXY=trusted) as url:
        page = httpx.get(f"{url}/walks/{walk['id']}", headers=claims, trust_env=False)
        cookie = httpx.post(f"{url}/api/v1/walks", json=WISH, headers=claims, trust_env=False).headers["set-cookie"]
    assert Head(page.text).meta["og:url"].startswith(f"{scheme}://127.0.0.1:")
    assert ("Secure" in cookie) == (scheme == "https")
    logged = (tmp_path / "nginx.log").read_text()
    assert ("192.0.2.7 " in logged) == (scheme == "https")


def test_pages_are_served_while_the_api_is_away(tmp_path):
    """Before it starts, and after it has gone: visitors see the gallery, which says what is wrong, and it heals."""
    gallery, port = make_gallery(tmp_path / "dist"), free_port()
    fleet = Fleet()
    fleet.add()
    with nginx(tmp_path, gallery, f"127.0.0.1:{port}") as url, httpx.Client(base_url=url, trust_env=False) as visitor:

        def alone() -> None:
            page, call = visitor.get("/about", headers=BROWSER), visitor.get("/api/v1/model")
            assert (page.status_code, Head(page.text).title) == (200, "MoMALisa")
            assert "Bad Gateway" not in page.text
            assert "error" not in page.text
            assert (call.status_code, call.headers["content-type"]) == (503, "application/problem+json")
            assert call.json()["status"] == int(call.status_code)
            assert call.headers["retry-after"]

        alone()
        with api(tmp_path, fleet, port, gallery):
            assert Head(visitor.get("/about").text).title == "About · MoMALisa"
            assert visitor.get("/api/v1/model").status_code == 200
        alone()


def test_nginx_starts_where_nobody_knows_the_api_by_name(tmp_path):
    """In a cluster that comes up, names come last. Who is asked for them here is nobody."""
    nobody = f"127.0.0.1:{free_port()}"
    gallery = make_gallery(tmp_path / "dist")
    with nginx(tmp_path, gallery, "api.nowhere.example:8000", NGINX_LOCAL_RESOLVERS=nobody) as url:
        page = httpx.get(f"{url}/gallery", trust_env=False)
    assert (page.status_code, Head(page.text).title) == (200, "MoMALisa")
