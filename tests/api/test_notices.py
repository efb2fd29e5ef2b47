"""Requesting mails and webhooks: who may, to which addresses, and what the pages behind the links in mails do."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from momalisa_api.problems import Invalid
from momalisa_api.settings import Settings
from momalisa_api.store.notice_limits import CONFIRMATIONS_PER_OWNER, NoticeBook
from momalisa_api.store.notices import NoticeKind
from momalisa_api.store.schema import opened
from momalisa_api.store.tables import notice_charges, notices
from momalisa_api.text import is_mail_address
from momalisa_api.web.notice_intake import MailCaller, NoticeIntake
from tests.support.factories import ended, running
from tests.support.mail_server import MailServer, mail_server
from tests.support.notices import TOKENS, ended_walk
from tests.support.waiting import until

WALK = {"start": "a giraffe", "end": "a battleship", "frames": 2, "spacing": "uniform"}
ADDRESS = "You@example.com"

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def mailing(settings: Settings, server: MailServer) -> Settings:
    mail = {"smtp_host": "127.0.0.1", "smtp_port": server.port, "smtp_tls": "none", "smtp_from": "walks@walks.example"}
    return settings.model_copy(update={**mail, "public_url": "http://api", "reconcile_s": 0.1})


async def requested(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    walk: dict[str, Any] = (await client.post("/api/v1/walks", json={**WALK, **changes})).json()
    return walk


async def mail_about(client: httpx.AsyncClient, walk: dict[str, Any], address: str = ADDRESS) -> httpx.Response:
    return await client.post(f"{walk['url']}/mail", json={"address": address})


def link_in(server: MailServer, what: str, number: int = -1) -> str:
    """The path of a link in a mail."""
    found = re.search(rf"http://api(/api/v1/mail/{what}\S+)", server.mails[number].as_string())
    assert found
    return found[1]


async def test_an_address_gets_walks_only_after_its_owner_has_pressed_the_button(mailing, fleet, server):
    """Programs that check mail open its links. Once confirmed, the same browser needs no second confirmation."""
    async with running(mailing, fleet) as client:
        walk = await ended(client, await requested(client))
        assert (await mail_about(client, walk)).json() == {"confirm": True}
        await until(lambda: len(server.mails) == 1)
        asking = server.mails[0]
        assert (asking["Subject"], "giraffe" in asking.as_string()) == ("Confirm your address", False)
        link = link_in(server, "confirm")
        assert ADDRESS.lower() not in link.lower()
        page = await client.get(link)
        assert (page.status_code, page.headers["Cache-Control"]) == (200, "no-store")
        assert '<form method="post"' in page.text
        assert len(server.mails) == 1
        assert "Address confirmed" in (await client.post(link)).text
        await until(lambda: len(server.mails) == 2)
        assert server.mails[1]["Subject"] == "Your walk is done"
        assert f"http://api/walks/{walk['id']}" in server.mails[1].as_string()
        assert "It was confirmed before." in (await client.post(link)).text
        another = await ended(client, await requested(client, seed=1))
        assert (await mail_about(client, another, ADDRESS.lower())).json() == {"confirm": False}
        await until(lambda: len(server.mails) == 3)
    assert await rows(mailing) == []


async def test_the_link_in_a_mail_opens_a_private_walk(mailing, fleet, server):
    """Whoever reads the mail on another device has no cookie of the owner."""
    async with running(mailing, fleet) as client:
        walk = await ended(client, await requested(client, listed=False))
        assert walk["private"]
        await mail_about(client, walk)
        await until(lambda: len(server.mails) == 1)
        await client.post(link_in(server, "confirm"))
        await until(lambda: len(server.mails) == 2)
        found = re.search(rf"http://api/walks/{walk['id']}(\?link=\S+)", server.mails[1].as_string())
        assert found
        client.cookies = {}
        assert (await client.get(walk["url"])).status_code == 404
        assert (await client.get(walk["url"] + found[1])).status_code == 200


async def rows(settings: Settings) -> list[Any]:
    async with opened(settings.database_url) as engine, engine.connect() as connection:
        return list((await connection.scalars(select(notices.c.target))).all())


async def test_a_confirmation_is_for_the_owner_who_requested_it(mailing, fleet, server):
    """Otherwise everybody could mail an address that one has confirmed. On another device, it holds for a day."""
    async with running(mailing, fleet) as client:
        walk = await ended(client, await requested(client))
        await mail_about(client, walk)
        await until(lambda: len(server.mails) == 1)
        mine = dict(client.cookies)
        client.cookies = {}
        await client.post(link_in(server, "confirm"))
        bond = dict(client.cookies)
        await until(lambda: len(server.mails) == 2)
        client.cookies = mine
        assert (await mail_about(client, walk)).json() == {"confirm": False}
        client.cookies = bond
        await requested(client)
        refused = await mail_about(client, walk)
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:momalisa:problem:quota-exceeded")
        assert int(refused.headers["Retry-After"]) > 86_000


async def test_strangers_get_few_mails_and_none_after_they_stopped_them(mailing, fleet, server):
    """One a day for an address, a few for an owner; the link in the mail, or the mail program's button, ends them."""
    async with running(mailing, fleet) as client:
        walk = await requested(client)
        for number in range(CONFIRMATIONS_PER_OWNER):
            assert (await mail_about(client, walk, f"you{number}@example.com")).status_code == 202
            await until(lambda count=number: len(server.mails) == count + 1)
        assert (await mail_about(client, walk, "more@example.com")).status_code == 429
        client.cookies = {}
        stop = link_in(server, "stop", 0)
        assert "Stop all mail" in (await client.get(stop)).text
        unsubscribed = await client.post(stop, data={"List-Unsubscribe": "One-Click"})
        assert "Mail stopped" in unsubscribed.text
        assert (await client.post(link_in(server, "confirm", 0))).status_code == 422
        await requested(client)
        refused = await mail_about(client, walk, "YOU0@example.com")
        assert (refused.status_code, refused.json()["type"]) == (422, "urn:momalisa:problem:mail-stopped")
        assert await rows(mailing) == []


async def test_forged_tokens_do_nothing(mailing, fleet, server):
    """Also those of the other page, and cut ones."""
    async with running(mailing, fleet) as client:
        await mail_about(client, await requested(client))
        await until(lambda: len(server.mails) == 1)
        confirm, stop = link_in(server, "confirm"), link_in(server, "stop")
        for forged in (
            stop.replace("/stop", "/confirm"),
            confirm.replace("/confirm", "/stop"),
            confirm[:-4],
            "?token=",
        ):
            answer = await client.post(forged if "/" in forged else f"/api/v1/mail/confirm{forged}")
            assert (answer.status_code, "This link does not work" in answer.text) == (410, True)
        markup = await client.get("/api/v1/mail/confirm", params={"token": '"><script>'})
        assert "<script>" not in markup.text


async def test_only_those_who_requested_the_walk_can_have_mails_and_webhooks(mailing, fleet):
    """For others, the walk may not even exist; callers without a cookie share one owner."""
    async with running(mailing, fleet) as client:
        walk = await requested(client)
        client.cookies = {}
        for other in (False, True):
            if other:
                await requested(client, seed=1)
            for refused in (
                await mail_about(client, walk),
                await client.post(f"{walk['url']}/webhooks", json={"url": "https://example.com/"}),
            ):
                assert (refused.status_code, refused.json()["type"]) == (403, "urn:momalisa:problem:not-owner")
    assert await rows(mailing) == []


async def test_mails_and_webhooks_can_be_taken_back(mailing, fleet, server):
    """Until they are sent; one that was sent, or belongs to another, is not found."""
    fleet.add(stalled=True)
    async with running(mailing, fleet) as client:
        walk = await requested(client)
        created = await client.post(f"{walk['url']}/webhooks", json={"url": "https://example.com/"})
        assert (created.status_code, created.headers["Cache-Control"]) == (201, "no-store")
        webhook, secret = created.json()["id"], created.json()["secret"]
        assert re.fullmatch("whsec_[A-Za-z0-9+/]{43}=", secret)
        assert await rows(mailing) == ["https://example.com/"]
        assert (await client.delete(f"{walk['url']}/webhooks/{webhook}")).status_code == 204
        assert (await client.delete(f"{walk['url']}/webhooks/{webhook}")).status_code == 404
        await mail_about(client, walk)
        await until(lambda: len(server.mails) == 1)
        await client.post(link_in(server, "confirm"))
        assert await rows(mailing) == [ADDRESS]
        assert (await client.delete(f"{walk['url']}/mail")).status_code == 204
        assert await rows(mailing) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://169.254.169.254/latest/",
        "ftp://example.com/",
        "https://a:b@example.com/",
        "https://example.com:22/",
        "https://",
        "nonsense",
    ],
)
async def test_a_webhook_that_cannot_be_called_is_refused_at_once(mailing, fleet, url):
    """Its owner learns it now, and not from a log that only the operator reads."""
    async with running(mailing, fleet) as client:
        walk = await requested(client)
        refused = await client.post(f"{walk['url']}/webhooks", json={"url": url})
        assert (refused.status_code, refused.json()["type"]) == (422, "urn:momalisa:problem:address-refused")


async def test_a_deployment_without_a_mail_server_says_so(settings, fleet):
    """The gallery does not offer it there, and a script must not wait for a mail."""
    async with running(settings, fleet) as client:
        refused = await mail_about(client, await requested(client))
        assert (refused.status_code, refused.json()["type"]) == (404, "urn:momalisa:problem:no-mail")
        assert (await client.get("/api/v1/me")).json()["mail"] is False


async def test_a_signed_in_caller_gets_mail_at_the_verified_address_alone(mailing):
    """And can undo a stop of this address, as it is known to be theirs."""
    async with opened(mailing.database_url) as engine:
        walk, book = await ended_walk(engine, "user:me"), NoticeBook(engine, 100)
        intake = NoticeIntake(mailing, book, TOKENS)
        caller = MailCaller("user:me", "network", ADDRESS, None)
        with pytest.raises(Invalid, match="You are signed in"):
            await intake.mail(walk, caller, "other@example.com")
        await book.stop(ADDRESS, TOKENS.digest(ADDRESS))
        assert not await intake.mail(walk, caller, None)
        async with engine.connect() as connection:
            row = (await connection.execute(select(notices.c.kind, notices.c.target))).one()
            assert tuple(row) == (NoticeKind.MAIL, ADDRESS)
            assert await connection.scalar(select(notice_charges.c.address)) == TOKENS.digest(ADDRESS)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "you",
        "you@example",
        "you@@example.com",
        "you@example.com\n",
        "you@example.com\r\nBcc: all@example.com",
        "you@example.com, all@example.com",
        "You <you@example.com>",
        '"you"@example.com',
        "you@[127.0.0.1]",
        "you@exämple.com",
        "yöu@example.com",
        "you..me@example.com",
        ".you@example.com",
        "you@-example.com",
        "you @example.com",
        "@relay:you@example.com",
        f"{'y' * 65}@example.com",
        f"you@{'example.' * 40}com",
    ],
)
def test_what_is_not_one_plain_address_is_refused(address: str):
    """Whatever could add a header, a second receiver or a route to a mail."""
    assert not is_mail_address(address)


@pytest.mark.parametrize("address", ["you@example.com", "You.+tag_1@mail.xn--exmple-cua.co.uk", "o'neill@example.com"])
def test_usual_addresses_are_accepted(address: str):
    """Many people have tags and hyphens in theirs."""
    assert is_mail_address(address)
