"""Promises of docs/privacy.md that belong to no single part: what the database, the logs and the films do not have."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from momalisa_api.films.kinds import FilmName
from momalisa_api.films.metadata import read_spec
from momalisa_api.server import uvicorn_config
from tests.support.factories import FakeFleet, ended, running
from tests.support.pictures import encoded, scene

pytestmark = pytest.mark.anyio
VISITOR, PROXY = "203.0.113.77", "198.51.100.9"
USER = {"X-Forwarded-User": "jane-4711", "X-Forwarded-Email": "jane@example.com"}
PROMPTS = ("a heliotrope quagga", "an opalescent axolotl")


@dataclass
class Left:
    """What two visitors leave behind: rows, log lines, and the films of a private walk by name."""

    rows: str = ""
    log: list[Any] = field(default_factory=list)
    films: dict[str, bytes] = field(default_factory=dict)
    cookies: list[str] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)


@asynccontextmanager
async def visitor(app: Any, address: str, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, client=(address, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
        yield client


async def walked(client: httpx.AsyncClient, left: Left) -> None:
    """Upload, walk in private, look at the films, and make a mistake."""
    request = {"start": PROMPTS[0], "end": PROMPTS[1], "frames": 3, "spacing": "uniform", "listed": False}
    assert (await client.post("/api/v1/pictures", content=encoded(scene(), "PNG"))).status_code == 201
    assert (await client.post("/api/v1/pictures", content=b"no picture")).status_code == 422
    walk = await ended(client, (await client.post("/api/v1/walks", json=request)).json())
    for name in FilmName:
        left.films[name] = (await client.get(f"{walk['url']}/{name}")).content
    await client.post("/api/v1/walks", json={**request, "frames": 0})
    left.cookies += client.cookies.values()


@pytest.fixture
async def left(settings, tmp_path: Path) -> Left:
    found = Left()
    settings = settings.model_copy(update={"sign_in": "optional", "sign_in_proxies": PROXY})
    with capture_logs() as found.log:
        async with running(settings, FakeFleet()) as client:
            app = client._transport.app
            async with visitor(app, VISITOR) as stranger, visitor(app, PROXY, **USER) as user:
                await walked(stranger, found)
                await walked(user, found)
                assert (await user.get("/api/v1/me")).json()["email"] == USER["X-Forwarded-Email"]
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as database:
        found.rows = "\n".join(database.iterdump())
        found.scopes = [scope for (scope,) in database.execute("SELECT spec ->> 'scope' FROM walks")]
    return found


async def test_nobodys_address_name_or_mail_address_is_stored(left: Left):
    """Only keyed hashes are, which nobody can turn back without the secret."""
    assert PROMPTS[0] in left.rows
    for secret in (VISITOR, PROXY, *USER.values(), *left.cookies):
        assert secret not in left.rows


async def test_no_log_contains_prompts_addresses_or_cookies(left: Left):
    """Logs are read by more people, and kept in more places, than the database. Also at the level debug."""
    assert left.log
    said = repr(left.log)
    for secret in (*PROMPTS, VISITOR, PROXY, *USER.values(), *left.cookies, *left.scopes):
        assert secret not in said


async def test_no_request_is_logged_by_the_api(settings):
    """URLs of a GET contain prompts, and links open private walks."""
    assert uvicorn_config(None, settings).access_log is False  # type: ignore[arg-type]


async def test_a_film_says_what_it_shows_and_not_who_requested_it(left: Left, tmp_path: Path):
    """Films are passed on."""
    assert len(left.scopes) == 2
    assert all(left.scopes)
    for name, content in left.films.items():
        film = tmp_path / name
        film.write_bytes(content)
        assert read_spec(film)["stops"] == list(PROMPTS)
        for secret in (VISITOR, PROXY, *USER.values(), *left.cookies, *left.scopes):
            for text in (secret.encode(), secret.encode("utf-16-le")):
                assert text not in content, name
