"""The gallery's sign-in, against a real provider: the visitor's way there and back, and attacks on it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import pytest

from momalisa_api.cli.main import main
from momalisa_api.settings import Settings
from momalisa_api.web import sign_in_issuer
from tests.support.factories import FakeFleet, running
from tests.support.oidc import Provider, callback_of, sign_in, with_sign_in

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 2}
ADA = {"kind": "user", "name": "Ada", "email": "ada@example.com", "sign_in": "optional"}


@asynccontextmanager
async def browser(client: httpx.AsyncClient, base_url: str = "http://api") -> AsyncIterator[httpx.AsyncClient]:
    """Another client of the same API, with a cookie jar of its own."""
    async with httpx.AsyncClient(transport=client._transport, base_url=base_url) as other:
        yield other


async def me_of(client: httpx.AsyncClient) -> dict[str, str]:
    me = (await client.get("/api/v1/me")).json()
    return {name: me[name] for name in ADA}


def _query(answer: httpx.Response) -> dict[str, list[str]]:
    """What a redirect to the provider asks for."""
    return parse_qs(urlsplit(answer.headers["location"]).query)


async def test_a_visitor_signs_in_and_out(settings: Settings, fleet: FakeFleet, provider: Provider):
    """The session is a cookie that no script can read, and that comes along with no other site's request."""
    async with running(with_sign_in(settings, provider), fleet) as client:
        answer = await sign_in(client, query="?next=/gallery?page=2")
        assert (answer.status_code, answer.headers["location"]) == (303, "/gallery?page=2")
        [session] = [each for each in answer.headers.get_list("set-cookie") if each.startswith("momalisa_session=")]
        assert {"HttpOnly", "Path=/", "SameSite=lax"} <= set(session.split("; "))
        assert await me_of(client) == ADA
        assert (await client.post("/api/v1/sign-out")).status_code == 204
        assert (await me_of(client))["kind"] == "anonymous"


async def test_over_tls_no_other_host_can_plant_a_session(settings: Settings, fleet: FakeFleet, provider: Provider):
    """A neighbouring subdomain can set cookies for the whole domain, but none with this prefix."""
    async with running(with_sign_in(settings, provider), fleet) as plain, browser(plain, "https://api") as client:
        answer = await sign_in(client)
        [session] = [each for each in answer.headers.get_list("set-cookie") if "session" in each]
        assert session.startswith("__Host-momalisa_session=")
        assert {"Secure", "Path=/"} <= set(session.split("; "))
        assert "Domain" not in session
        assert (await me_of(client))["kind"] == "user"
        planted = {"Cookie": session.split(";")[0].removeprefix("__Host-")}
        async with browser(plain, "https://api") as victim:
            assert (await victim.get("/api/v1/me", headers=planted)).json()["kind"] == "anonymous"


@pytest.mark.parametrize("client_id", ["public-es", "public-ed"])
async def test_a_client_without_a_secret_signs_in(
    settings: Settings, fleet: FakeFleet, provider: Provider, client_id: str
):
    """PKCE protects its codes. These two get tokens that are signed with ES256 and EdDSA."""
    changes = {"sign_in_client_id": client_id, "sign_in_client_secret": None}
    async with running(with_sign_in(settings, provider, **changes), fleet) as client:
        await sign_in(client)
        assert await me_of(client) == ADA


async def test_one_user_is_one_owner_in_every_browser(settings: Settings, fleet: FakeFleet, provider: Provider):
    """And two users are two."""
    async with running(with_sign_in(settings, provider), fleet) as client, browser(client) as phone:
        await sign_in(client)
        await sign_in(phone)
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
        mine = (await phone.get("/api/v1/walks?owner=me")).json()["walks"]
        assert [found["id"] for found in mine] == [walk["id"]]
        await sign_in(phone, "grace")
        assert (await phone.get("/api/v1/walks?owner=me")).json()["walks"] == []


async def test_an_address_counts_only_if_it_is_verified(settings: Settings, fleet: FakeFleet, provider: Provider):
    """Anybody can enter anybody's address at some providers."""
    async with running(with_sign_in(settings, provider), fleet) as client:
        await sign_in(client, "unverified")
        assert (await client.get("/api/v1/me")).json()["email"] is None


async def test_the_request_to_the_provider_is_protected(settings: Settings, fleet: FakeFleet, provider: Provider):
    """With fresh values each time: state against forged answers, nonce against others' tokens, PKCE against stolen
    codes."""
    async with running(with_sign_in(settings, provider), fleet) as client:
        queries = []
        for _ in range(2):
            answer = await client.get("/api/v1/sign-in")
            queries.append(_query(answer))
            assert queries[-1]["code_challenge_method"] == ["S256"]
            assert queries[-1]["redirect_uri"] == ["http://api/api/v1/sign-in/callback"]
            [cookie] = answer.headers.get_list("set-cookie")
            assert {"HttpOnly", "Path=/api/v1/sign-in", "SameSite=lax"} <= set(cookie.split("; "))
        for name in ("state", "nonce", "code_challenge"):
            assert queries[0][name] != queries[1][name]
            assert len(queries[0][name][0]) >= 43


async def test_nobody_is_sent_to_another_site(settings: Settings, fleet: FakeFleet, provider: Provider):
    """A link to the own server must not end at a page that looks like it."""
    elsewhere = [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "/%09/evil.example",
        "e",
        "",
    ]
    async with running(with_sign_in(settings, provider), fleet) as client:
        for next in elsewhere:
            answer = await client.get(f"/api/v1/sign-in?next={next}")
            assert (answer.status_code, answer.json()["type"]) == (422, "urn:momalisa:problem:invalid-request"), next


async def test_a_sign_in_ends_only_in_the_browser_where_it_began(
    settings: Settings, fleet: FakeFleet, provider: Provider
):
    """Otherwise an attacker could sign a victim in as the attacker, and read what the victim does then."""
    async with running(with_sign_in(settings, provider), fleet) as attacker, browser(attacker) as victim:
        callback = await callback_of(await attacker.get("/api/v1/sign-in"))
        await victim.get("/api/v1/sign-in")
        for visitor in (victim, victim):
            answer = await visitor.get(callback)
            assert (answer.status_code, answer.json()["type"]) == (400, "urn:momalisa:problem:sign-in-failed")
        assert (await me_of(victim))["kind"] == "anonymous"


async def test_a_visitor_whose_sign_in_fails_gets_a_page_with_a_way_back(
    settings: Settings, fleet: FakeFleet, provider: Provider
):
    """A browser would show the JSON that programs get, and nothing to click."""
    async with running(with_sign_in(settings, provider), fleet) as client:
        for path in ("/api/v1/sign-in/callback?code=x&state=y", "/api/v1/sign-in/callback?error=access_denied"):
            answer = await client.get(path, headers={"Accept": "text/html,*/*;q=0.8"})
            assert (answer.status_code, answer.headers["Content-Type"]) == (400, "text/html; charset=utf-8")
            assert "Sign in again." in answer.text
            assert '<a href="/">Back to the gallery</a>' in answer.text


async def test_an_answer_of_the_provider_is_used_once(settings: Settings, fleet: FakeFleet, provider: Provider):
    """From the history, or from a log, it signs nobody in: not even with the cookies of before."""
    async with running(with_sign_in(settings, provider), fleet) as client:
        start = await client.get("/api/v1/sign-in")
        callback, cookies = await callback_of(start), dict(client.cookies)
        assert (await client.get(callback)).status_code == 303
        assert (await client.get(callback)).status_code == 400
        async with browser(client) as again:
            again.cookies.update(cookies)
            answer = await again.get(callback)
            assert (answer.status_code, answer.json()["type"]) == (400, "urn:momalisa:problem:sign-in-failed")


async def test_an_answer_that_belongs_to_another_sign_in_is_refused(
    settings: Settings, fleet: FakeFleet, provider: Provider
):
    """Each part of the answer is tied to this one: the code by PKCE, the token by the nonce, the issuer by its name."""
    async with running(with_sign_in(settings, provider), fleet) as client, browser(client) as other:
        callback = await callback_of(await client.get("/api/v1/sign-in"))
        state = _query(await other.get("/api/v1/sign-in"))["state"][0]
        code = parse_qs(urlsplit(callback).query)["code"][0]
        stolen = await other.get("/api/v1/sign-in/callback", params={"code": code, "state": state})
        unknown = await client.get(re.sub("state=[^&]*", "state=another", callback))
        renamed = await client.get(re.sub("iss=[^&]*", "iss=https%3A%2F%2Fevil.example", callback))
        began = await client.get("/api/v1/sign-in")
        began.headers["location"] = re.sub("nonce=[^&]*", "nonce=another", began.headers["location"])
        swapped = await client.get(await callback_of(began))
        for answer in (stolen, unknown, renamed, swapped):
            assert (answer.status_code, answer.json()["type"]) == (400, "urn:momalisa:problem:sign-in-failed")
        assert "belongs to another sign-in" in swapped.json()["detail"]


async def test_a_visitor_who_refuses_goes_back_without_a_session(
    settings: Settings, fleet: FakeFleet, provider: Provider
):
    """That is no error: it is the visitor's choice."""
    async with running(with_sign_in(settings, provider), fleet) as client:
        state = _query(await client.get("/api/v1/sign-in?next=/gallery"))["state"][0]
        answer = await client.get(f"/api/v1/sign-in/callback?error=access_denied&state={state}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/gallery")
        assert (await me_of(client))["kind"] == "anonymous"


async def test_a_session_is_worth_nothing_in_another_deployment(
    settings: Settings, fleet: FakeFleet, provider: Provider, tmp_path
):
    """Each database has its own secrets; and an issuer that is no longer trusted has no sessions."""
    elsewhere = {"database_url": f"sqlite:///{tmp_path}/other.sqlite"}
    async with running(with_sign_in(settings, provider), fleet) as client:
        await sign_in(client)
        cookie = {"Cookie": f"momalisa_session={client.cookies['momalisa_session']}"}
    for changes in (elsewhere, {"sign_in_issuers": "https://other.example"}, {"sign_in": "off"}):
        async with running(with_sign_in(settings, provider, **changes), FakeFleet()) as other:
            assert (await other.get("/api/v1/me", headers=cookie)).json()["kind"] == "anonymous"


def test_an_operator_ends_all_sessions(settings: Settings, provider: Provider, monkeypatch: pytest.MonkeyPatch):
    """A cookie that was stolen, or a user who was removed at the provider, would go on for days."""

    async def kind(cookie: str = "") -> tuple[str, str]:
        async with running(with_sign_in(settings, provider), FakeFleet()) as client:
            if not cookie:
                await sign_in(client)
                cookie = client.cookies["momalisa_session"]
            answer = await client.get("/api/v1/me", headers={"Cookie": f"momalisa_session={cookie}"})
            return cookie, answer.json()["kind"]

    cookie, before = anyio.run(kind)
    assert (anyio.run(kind, cookie)[1], before) == ("user", "user")
    monkeypatch.setenv("MOMALISA_DATABASE_URL", settings.database_url)
    with pytest.raises(SystemExit) as end:
        main(["sign-out-all"])
    assert (end.value.code, anyio.run(kind, cookie)[1]) == (0, "anonymous")


async def test_no_sign_in_without_the_provider(settings: Settings, fleet: FakeFleet, provider: Provider):
    """503 with what to do, and never a session of somebody whom nobody has checked. Sessions go on."""
    async with running(with_sign_in(settings, provider), fleet) as client, browser(client) as signed:
        await sign_in(signed)
        callback = await callback_of(await client.get("/api/v1/sign-in"))
        with provider.down():
            answer = await client.get(callback)
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:momalisa:problem:sign-in-unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert (await me_of(signed))["kind"] == "user"
        assert (await me_of(client))["kind"] == "anonymous"
    with provider.down():
        async with running(with_sign_in(settings, provider), FakeFleet()) as client:
            answer = await client.get("/api/v1/sign-in")
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:momalisa:problem:sign-in-unavailable")


async def test_without_a_provider_there_is_no_sign_in(settings: Settings, fleet: FakeFleet):
    """The gallery shows no button then."""
    async with running(settings, fleet) as client:
        for path in ("/api/v1/sign-in", "/api/v1/sign-in/callback?code=a&state=b"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["type"]) == (404, "urn:momalisa:problem:sign-in-off")
        assert (await client.get("/api/v1/me")).json()["sign_in"] == "off"


async def test_where_it_is_required_only_users_and_keys_start_something(
    settings: Settings, fleet: FakeFleet, provider: Provider
):
    """Reading stays open, and so does a GET of a walk that exists."""
    required = with_sign_in(settings, provider, sign_in="required")
    async with running(required, fleet) as client, browser(client) as user:
        walk = "/api/v1/walk?start=a&end=b&frames=2"
        starts = [
            await client.post("/api/v1/walks", json=REQUEST),
            await client.post("/api/v1/pictures", content=b"no picture"),
            await client.get(walk),
        ]
        for answer in starts:
            assert (answer.status_code, answer.json()["type"]) == (401, "urn:momalisa:problem:sign-in-required")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "/api/v1/sign-in" in answer.json()["detail"]
            assert "set-cookie" not in answer.headers
        await sign_in(user)
        created = await user.post("/api/v1/walks", json=REQUEST)
        assert created.status_code == 201
        assert (await user.get(walk + "&wait=20")).status_code == 200
        assert (await client.get(created.json()["url"])).status_code == 200
        assert (await client.get(walk)).status_code == 200


async def test_the_client_secret_comes_from_a_file_and_is_not_shown(settings: Settings, tmp_path, provider: Provider):
    """A variable ends up in process lists and crash reports; a file does not."""
    secret = tmp_path / "client-secret"
    secret.write_text("from a file\n")
    changes = {"sign_in_client_secret": None, "sign_in_client_secret_file": secret}
    assert with_sign_in(settings, provider, **changes).read_client_secret() == "from a file"
    assert "signs%" not in repr(with_sign_in(settings, provider))
    with pytest.raises(SystemExit, match="MOMALISA_SIGN_IN_CLIENT_SECRET_FILE"):
        with_sign_in(
            settings, provider, **{**changes, "sign_in_client_secret_file": tmp_path / "none"}
        ).read_client_secret()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sign_in_issuers": "http://example.com"}, "https"),
        ({"sign_in_issuers": None}, "MOMALISA_SIGN_IN_ISSUERS"),
        ({"sign_in_client_id": None}, "MOMALISA_SIGN_IN_AUDIENCES"),
        ({"sign_in_proxies": "0.0.0.0/0"}, "anybody"),
        ({"sign_in_proxies": "proxy.example.com"}, "IPv4"),
        ({"sign_in_scopes": "email"}, "openid"),
        ({"sign_in_token_header": "X: y"}, "header"),
    ],
)
def test_settings_that_would_let_anybody_in_are_refused(
    settings: Settings, provider: Provider, changes: dict[str, str | None], reason: str
):
    """At the start, and with the reason."""
    with pytest.raises(ValueError, match=reason):
        with_sign_in(settings, provider, **changes)


async def test_a_discovery_document_of_another_issuer_is_refused(
    settings: Settings, fleet: FakeFleet, provider: Provider, capsys
):
    """Its keys would sign for the wrong issuer; the log says what to set."""
    async with running(with_sign_in(settings, provider, sign_in_issuers=f"{provider.issuer}/"), fleet) as client:
        assert (await client.get("/api/v1/sign-in")).status_code == 503
    assert provider.issuer in capsys.readouterr().out


def test_the_keys_of_a_provider_are_fetched_often_enough():
    """A key that was withdrawn is refused within the hour."""
    assert sign_in_issuer.FRESH_S < sign_in_issuer.USABLE_S <= 3600
