"""frontend/nginx.conf in a real nginx, in front of a real API: it serves the gallery as the API does without nginx."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from PIL import Image

from momalisa_api.sign_in_settings import EMAIL_HEADERS, USER_HEADERS
from momalisa_api.web.routes.security_headers import SECURITY
from momalisa_api.web.routes.static import INCLUDE, TYPES
from tests.support.factories import FakeFleet, FakeReplica
from tests.support.gallery import FONT, SCRIPT, Head, make_gallery
from tests.support.nginx import TEMPLATE, assert_is_problem, nginx, read_by_nginx, render, response_to
from tests.support.pictures import encoded
from tests.support.processes import free_port, wait_until
from tests.support.served_api import served_api

REQUEST = {"start": "a <giraffe>", "end": "a battleship", "frames": 4, "spacing": "uniform"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
DIRECTIVE = re.compile(r'^ {8}add_header (\S+) (?:"([^"]*)"|(\S+)) always;$', re.MULTILINE)


@dataclass
class Site:
    """An nginx, and the API behind it, which can serve the same gallery by itself."""

    outside: httpx.Client
    inside: httpx.Client
    replica: FakeReplica
    folder: Path
    gallery: Path

    @property
    def api(self) -> str:
        return self.inside.base_url.netloc.decode()

    def request_walk(self, **changes: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.outside.post("/api/v1/walks", json=REQUEST | changes).json()
        return found

    def finished_walk(self) -> dict[str, Any]:
        url = self.request_walk()["url"]
        wait_until(lambda: self.outside.get(url).json()["state"] == "done")
        found: dict[str, Any] = self.outside.get(url).json()
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    gallery = make_gallery(folder / "dist")
    fleet = FakeFleet()
    replica = fleet.add()
    with (
        served_api(folder, fleet, gallery=gallery) as api,
        nginx(folder, gallery, api.removeprefix("http://")) as url,
    ):
        options: dict[str, Any] = {"trust_env": False, "timeout": 30}
        with httpx.Client(base_url=url, **options) as outside, httpx.Client(base_url=api, **options) as inside:
            yield Site(outside, inside, replica, folder, gallery)


def test_nginx_accepts_the_configuration(tmp_path):
    """Otherwise a typing error would only show during a roll-out."""
    check = read_by_nginx(render(tmp_path, make_gallery(tmp_path / "dist"), "api:8000", port=free_port()))
    assert check.returncode == 0, check.stderr
    assert "[warn]" not in check.stderr


def test_nginx_and_the_api_have_the_same_headers_and_types():
    """Some deployments use nginx, others only the API; the gallery must work with both."""
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
    "walk with a link": lambda walk: f"/walks/{walk}?link=1.A%22&path=/about",
    "nowhere": lambda walk: "/no/where",
    "shell": lambda walk: "/index.html",
    "script": lambda walk: SCRIPT,
    "font": lambda walk: FONT,
    "icon": lambda walk: "/favicon.svg",
    "manifest": lambda walk: "/manifest.webmanifest",
    "robots": lambda walk: "/robots.txt",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_page_is_the_same_behind_nginx_and_without_it(site, place):
    """What is tested with one server then holds for the other."""
    path = PLACES[place](site.finished_walk()["id"])
    host = {"Host": "moma.example:8080"}
    inner, outer = (client.get(path, headers=BROWSER | host) for client in (site.inside, site.outside))
    assert outer.status_code == inner.status_code
    for name in ("content-type", "cache-control", "content-encoding", *SECURITY):
        assert outer.headers.get(name) == inner.headers.get(name), name
        assert len(outer.headers.get_list(name)) <= 1
    assert outer.content.split() == inner.content.split()
    assert INCLUDE not in outer.text
    if place.startswith("walk"):
        assert Head(outer.text).meta["og:url"] == f"http://moma.example:8080{path.partition('?')[0]}"
    assert outer.headers["server"] == "nginx"


def test_a_missing_asset_is_not_cached_for_good(site):
    """An asset requested in the middle of a roll-out would otherwise be missing for a year."""
    gone = site.outside.get("/assets/gone-12345678.js")
    assert (gone.status_code, gone.headers["cache-control"]) == (404, "no-cache")


def test_internal_paths_are_not_public(site):
    """Metrics show how busy a deployment is, and the endpoint for page metadata is only for nginx."""
    for path in (
        "/metrics",
        "/healthz",
        "/readyz",
        "/not-found",
        "/nginx.conf",
        "/../card.json",
        "/assets/../../card.json",
    ):
        answer = site.outside.get(path)
        assert answer.status_code in (400, 404), path
        assert "momalisa_" not in answer.text
        assert "test-model" not in answer.text
    walk = site.finished_walk()["id"]
    assert walk not in site.outside.get("/api/v1/head", params={"path": f"/walks/{walk}"}).text


def test_events_are_not_buffered(site):
    """A buffer would hold them back until the walk has ended."""
    site.replica.stalled = True
    try:
        walk = site.request_walk(seed=11)
        with site.outside.stream("GET", f"{walk['url']}/events", timeout=10) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = stream.iter_lines()
            assert any(line.startswith("data: ") for line in lines)
            site.outside.delete(walk["url"])
            assert "cancelled" in "".join(lines)
    finally:
        site.replica.stalled = False


def test_a_long_poll_lasts_until_the_walk_is_done(site):
    """`wait` is useless if a proxy times out before."""
    answer = site.outside.get("/api/v1/walk?start=one&end=two&frames=5&wait=25")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/gif")


def test_films_are_served_whole_and_in_ranges(site):
    """A player that seeks requests ranges; files that never change are cached for good."""
    film = site.finished_walk()["films"]["walk.mp4"]
    whole, piece = site.outside.get(film), site.outside.get(film, headers={"Range": "bytes=10-19"})
    assert (piece.status_code, piece.content) == (206, whole.content[10:20])
    assert whole.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "content-security-policy" not in whole.headers
    same = site.outside.get(film, headers={"If-None-Match": whole.headers["etag"]})
    assert same.status_code == 304


def test_uploads_pass_through_nginx_and_the_api_limits_them(site):
    """nginx limits other bodies to 1 MiB, and has no room for files of its own."""
    noise = encoded(Image.effect_noise((1400, 1400), 100), "PNG")
    assert len(noise) > 1 << 20
    picture = site.outside.post("/api/v1/pictures", files={"picture": ("noise.png", noise)})
    assert picture.status_code == 201, picture.text
    shown = site.outside.get(picture.json()["url"])
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
    assert shown.headers["cache-control"].startswith("private")
    assert shown.headers["x-content-type-options"] == "nosniff"
    # nginx closes the connection of a body that it does not read to the end: the next request needs another.
    large = site.outside.post("/api/v1/pictures", content=bytes(25_000_000), headers={"Connection": "close"})
    assert_is_problem(large, 413)
    assert "20 MB" in large.json()["detail"]
    clip = site.outside.post("/api/v1/clips", content=bytes(25_000_000))
    assert_is_problem(clip, 422)


def test_problems_of_the_api_pass_through_nginx(site):
    """Clients parse problem documents, not nginx's error pages."""
    large = site.outside.post("/api/v1/walks", content=b" " * 300_000, headers=CLOSED_JSON)
    unknown = site.outside.get(f"/api/v1/walks/{'0' * 32}")
    assert (large.status_code, unknown.status_code) == (413, 404)
    assert {large.headers["content-type"], unknown.headers["content-type"]} == {"application/problem+json"}
    docs = site.outside.get("/api/docs", headers=BROWSER)
    assert docs.status_code == 200
    assert "content-security-policy" not in docs.headers


# The connection of a body that is too large cannot be used again.
CLOSED_JSON = {"Content-Type": "application/json", "Connection": "close"}
CJK = quote("画" * 500)
LONG = quote("🎨" * 1000)
EIGHT = "&".join(f"stop={quote(chr(0x4E00 + number) * 120)}" for number in range(8))
JSON = {"Accept": "application/json"}
# What the api accepts, or refuses in its own words: path and headers.
LARGE: dict[str, tuple[str, dict[str, str]]] = {
    "two prompts of 500 CJK characters": (f"/api/v1/walk?start={CJK}&end={CJK}&frames=2", JSON),
    "two prompts of 1000 emoji": (f"/api/v1/walk?start={LONG}&end={LONG}&frames=2", JSON),
    "an address of 64 KiB": (f"/api/v1/walks/{'0' * 32}?q={'a' * 65_000}", JSON),
    "a page with eight prompts of 120": (f"/?{EIGHT}", BROWSER),
    "a page from a page with eight": ("/about", BROWSER | {"Referer": f"http://moma.example/?{EIGHT}"}),
    "cookies of other apps": ("/api/v1/model", {"Cookie": "; ".join(f"app{n}={'c' * 3000}" for n in range(3))}),
    "cookies in a page": ("/", BROWSER | {"Cookie": f"app={'c' * 9000}"}),
}


def url_of(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")


@pytest.mark.parametrize("case", LARGE)
def test_what_the_api_accepts_reaches_it(site, case):
    """nginx's own limits are 8 KiB, which is less than the longest prompts."""
    path, headers = LARGE[case]
    outer, inner = (response_to(url_of(one), "GET", path, headers) for one in (site.outside, site.inside))
    assert outer.status_code == inner.status_code
    assert outer.headers["content-type"] == inner.headers["content-type"]
    assert outer.status_code in (200, 202, 404)


# Method, path, headers, body, and the status of the problem.
REFUSED: dict[str, tuple[str, str, dict[str, str], bytes, int]] = {
    "a large body": ("POST", "/api/v1/walks", {"Content-Type": "application/json"}, b" " * 2_000_000, 413),
    "a large body for a page": ("POST", "/about", {}, b" " * 2_000_000, 413),
    "a long address": ("GET", f"/api/v1/walk?start={'a' * 65_535}", {}, b"", 414),
    "a long header": ("GET", "/api/v1/model", {"Cookie": "c" * 300_000}, b"", 431),
    "many headers": ("GET", "/api/v1/model", {f"X-{n}": "c" * 30_000 for n in range(12)}, b"", 431),
    "a broken escape": ("GET", "/%zz", {}, b"", 400),
    "two hosts": ("GET", "/api/v1/model", {"hOST": "a"}, b"", 400),
    "a page that is posted": ("POST", "/about", {}, b"a=b", 405),
    "a missing asset": ("GET", "/assets/gone-12345678.js", {}, b"", 404),
    "a folder": ("GET", "/assets/", {}, b"", 404),
    "a range past the end": ("GET", "/favicon.svg", {"Range": "bytes=1000000-"}, b"", 416),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_nginx_refuses_is_a_problem(site, case):
    """Clients parse problem documents, not HTML."""
    *request, status = REFUSED[case]
    assert_is_problem(response_to(url_of(site.outside), *request), status)


@pytest.mark.parametrize(("trusted", "scheme"), [("0.0.0.0/32", "http"), ("127.0.0.1/32", "https")])
def test_forwarded_headers_are_used_only_from_a_trusted_proxy(site, tmp_path, trusted, scheme):
    """Any client can send them. A load balancer in front of nginx terminates TLS, and cookies depend on the scheme."""
    claims = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7", "X-Forwarded-Host": "evil.example"}
    walk = site.finished_walk()
    with nginx(tmp_path, site.gallery, site.api, TRUSTED_PROXY=trusted) as url:
        page = httpx.get(f"{url}/walks/{walk['id']}", headers=claims, trust_env=False)
        cookie = httpx.post(f"{url}/api/v1/walks", json=REQUEST, headers=claims, trust_env=False).headers["set-cookie"]
    assert Head(page.text).meta["og:url"].startswith(f"{scheme}://127.0.0.1:")
    assert ("Secure" in cookie) == (scheme == "https")
    logged = (tmp_path / "nginx.log").read_text()
    assert ("192.0.2.0 " in logged) == (scheme == "https")


@pytest.mark.parametrize("proxy", ["0.0.0.0/32", "127.0.0.1/32"])
def test_nginx_removes_names_of_users_that_do_not_come_from_their_proxy(tmp_path, proxy):
    """The API trusts nginx then, so any visitor could be anybody. A proxy that only forwards is not trusted in this."""
    gallery, fleet = make_gallery(tmp_path / "dist"), FakeFleet()
    fleet.add()
    names = zip(USER_HEADERS, EMAIL_HEADERS, strict=True)
    for user, email in names:
        options = {"sign_in_proxies": "127.0.0.1", "sign_in_user_header": user, "sign_in_email_header": email}
        folder = tmp_path / user
        folder.mkdir()
        with (
            served_api(folder, fleet, gallery=gallery, sign_in="required", **options) as api,
            nginx(folder, gallery, api.removeprefix("http://"), TRUSTED_PROXY="127.0.0.1", SIGN_IN_PROXY=proxy) as url,
        ):
            headers = {user: "ada", email: "ada@example.com", "X-Forwarded-For": "127.0.0.1"}
            me = httpx.get(f"{url}/api/v1/me", headers=headers, trust_env=False).json()
            named = proxy.startswith("127")
            assert (me["kind"], me["email"]) == (("user", "ada@example.com") if named else ("anonymous", None))


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({}, "127.0.0.1"),
        ({"TRUSTED_PROXY": "127.0.0.1/32"}, "198.51.100.1"),
        ({"TRUSTED_PROXY": "127.0.0.1/32", "TRUSTED_HOPS": "2"}, "203.0.113.7"),
        ({"TRUSTED_PROXY": "127.0.0.1/32", "TRUSTED_HOPS": "5"}, "127.0.0.1"),
    ],
)
def test_the_clients_address_is_the_first_that_trusted_proxies_add(site, tmp_path, settings, address):
    """Limits of networks depend on it. What is before it, the client itself has sent, in any number of headers."""
    forwarded = [("X-Forwarded-For", "192.0.2.7, 192.0.2.8"), ("X-Forwarded-For", "203.0.113.7,198.51.100.1")]
    with nginx(tmp_path, site.gallery, site.api, ACCESS_LOG="full", **settings) as url:
        assert httpx.get(f"{url}/api/v1/models", headers=forwarded, trust_env=False).status_code == 200
    assert f'{address} "GET /api/v1/models' in (tmp_path / "nginx.log").read_text()


ADDRESSES = {
    "192.0.2.77": "192.0.2.0",
    "2001:db8:abcd:12::1": "2001:db8:abcd::",
    "2001:db8::1": "2001:db8::",
    "2001::1": "2001::",
    "::1": "-",
}


def test_logs_have_neither_prompts_nor_tokens_nor_whole_addresses(site, tmp_path):
    """Also where the API is away, or the request is refused: then nginx has messages of its own."""
    secrets = {"start": "a secret giraffe", "link": "5f00.token"}
    with nginx(tmp_path, site.gallery, site.api, TRUSTED_PROXY="127.0.0.1/32") as url:
        for address in ADDRESSES:
            headers = {"X-Forwarded-For": address, "Referer": f"{url}/?start=a+secret+giraffe"}
            for path in ("/api/v1/walk", "/", f"/walks/{'0' * 32}", "/assets/secret.js", "/%zz"):
                httpx.get(url + path, params=secrets, headers=headers, trust_env=False)
        httpx.post(f"{url}/api/v1/walks?link=token", content=b" " * 2_000_000, trust_env=False)
    logged = (tmp_path / "nginx.log").read_text()
    assert f'192.0.2.0 "GET /walks/{"0" * 32} HTTP/1.1" 200' in logged
    for address, shown in ADDRESSES.items():
        assert f"{address} " not in logged
        assert f'{shown} "GET / HTTP/1.1"' in logged, address
    away = tmp_path / "away"
    away.mkdir()
    with nginx(away, site.gallery, f"127.0.0.1:{free_port()}") as url:
        assert httpx.get(f"{url}/api/v1/walk", params=secrets, trust_env=False).status_code == 503
    for text in (logged, (away / "nginx.log").read_text()):
        assert not [word for word in ("giraffe", "token", "start=", "link=") if word in text]


def test_pages_are_served_while_the_api_is_unavailable(tmp_path):
    """Before it starts and after it stops: visitors see the gallery, which reports the outage and then recovers."""
    gallery, port = make_gallery(tmp_path / "dist"), free_port()
    fleet = FakeFleet()
    fleet.add()
    with nginx(tmp_path, gallery, f"127.0.0.1:{port}") as url, httpx.Client(base_url=url, trust_env=False) as visitor:

        def check_without_api() -> None:
            page, call = visitor.get("/about", headers=BROWSER), visitor.get("/api/v1/model")
            assert (page.status_code, Head(page.text).title) == (200, "MoMALisa")
            assert "Bad Gateway" not in page.text
            assert "error" not in page.text
            assert (call.status_code, call.headers["content-type"]) == (503, "application/problem+json")
            assert call.json()["status"] == int(call.status_code)
            assert call.headers["retry-after"]

        check_without_api()
        with served_api(tmp_path, fleet, gallery=gallery, port=port):
            assert Head(visitor.get("/about").text).title == "About · MoMALisa"
            assert visitor.get("/api/v1/model").status_code == 200
        check_without_api()


def test_nginx_starts_when_the_api_has_no_dns_name_yet(tmp_path):
    """In a cluster that starts, DNS names come last. Here the resolver does not exist."""
    no_resolver = f"127.0.0.1:{free_port()}"
    gallery = make_gallery(tmp_path / "dist")
    with nginx(tmp_path, gallery, "api.nowhere.example:8000", NGINX_LOCAL_RESOLVERS=no_resolver) as url:
        page = httpx.get(f"{url}/gallery", trust_env=False)
    assert (page.status_code, Head(page.text).title) == (200, "MoMALisa")
