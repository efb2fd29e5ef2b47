"""Delivering notices: when, how often, to whom, and what the messages contain."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine
from standardwebhooks import Webhook, WebhookVerificationError
from structlog.testing import capture_logs

from momalisa_api.pictures.pinned import PinnedClient
from momalisa_api.problems import NotOwner, QuotaExceeded
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.notice_limits import Applicant, NoticeBook
from momalisa_api.store.notices import WEBHOOKS_PER_REQUEST, Notice, NoticeKind
from momalisa_api.store.tables import notice_charges, notices, walks
from momalisa_api.walks.walk import State
from momalisa_api.work.delivery import FIRST_DELIVERY_PAUSE_S, MAX_DELIVERIES, NotDelivered, pause_s
from momalisa_api.work.webhooks import WebhookCaller
from tests.support.api_process import answers, serving
from tests.support.factories import spec
from tests.support.mail_server import mail_server
from tests.support.notices import ADDRESS, SECRET, add_mail, add_webhook, ended_walk, notifying
from tests.support.postgres import clean_engine
from tests.support.processes import REPOSITORY, wait_until
from tests.support.waiting import until
from tests.support.web_site import WebSite, web_site

pytestmark = pytest.mark.anyio
OK = b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.fixture
async def engine(url) -> AsyncIterator[AsyncEngine]:
    async with clean_engine(url) as engine:
        async with engine.begin() as connection:
            await connection.execute(delete(notice_charges))
        yield engine


async def count(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int(await connection.scalar(select(func.count()).select_from(notices)) or 0)


async def until_none_waits(engine: AsyncEngine) -> None:
    with anyio.fail_after(20):
        while await count(engine):
            await anyio.sleep(0.02)


def plain(mail: EmailMessage) -> list[str]:
    return str(mail.get_body(("plain",)).get_content()).splitlines()


def url_of(site: WebSite, path: str = "/") -> str:
    return f"http://receiver.example:{site.port}{path}"


async def test_a_mail_is_sent_once_when_the_walk_is_done_and_its_address_is_deleted(engine):
    """Not before, and also if two workers look for what is due. Only on PostgreSQL there can be two."""
    walk, _ = await Catalogue(engine).request(spec(), "key:me")
    with mail_server() as server, capture_logs() as log:
        async with AsyncExitStack() as workers:
            for _ in range(2 if engine.dialect.name == "postgresql" else 1):
                await workers.enter_async_context(notifying(engine, server.port))
            await add_mail(engine, walk.id)
            other = await ended_walk(engine, seed=1)
            await add_mail(engine, other)
            await until(lambda: len(server.mails) == 1)
            async with engine.begin() as connection:
                await connection.execute(update(walks).values(state=State.DONE))
            await until_none_waits(engine)
    first, second = server.mails
    assert f"Open the walk: https://walks.example/walks/{other}" in plain(first)
    assert f'href="https://walks.example/walks/{walk.id}"' in second.get_body(("html",)).get_content()
    assert (second["To"], second["Subject"], second["Auto-Submitted"]) == (
        ADDRESS,
        "Your walk is done",
        "auto-generated",
    )
    assert second["List-Unsubscribe"].startswith("<https://walks.example/api/v1/mail/stop?token=")
    assert ADDRESS not in str(log)


async def test_a_failed_walk_is_told_as_such(engine):
    """Its owner would wait for ever."""
    walk = await ended_walk(engine, state=State.FAILED)
    async with web_site() as site:
        site.answers["/"] = OK
        with mail_server() as server:
            await add_mail(engine, walk)
            await add_webhook(engine, walk, url_of(site))
            async with notifying(engine, server.port, site.port):
                await until_none_waits(engine)
    assert server.mails[0]["Subject"] == "Your walk failed"
    assert body_of(site.seen[0])["type"] == "walk.failed"


async def test_a_message_about_a_private_walk_has_a_link_that_opens_it(engine):
    """Its reader may be signed out, or at another machine."""
    walk = await ended_walk(engine)
    async with engine.begin() as connection:
        stored, number = (await connection.execute(select(walks.c.spec, walks.c.number))).one()
        await connection.execute(update(walks).values(spec={**stored, "scope": "0" * 32}))
    async with web_site() as site:
        site.answers["/"] = OK
        with mail_server() as server:
            await add_mail(engine, walk)
            await add_webhook(engine, walk, url_of(site))
            async with notifying(engine, server.port, site.port):
                await until_none_waits(engine)
    content = plain(server.mails[0])
    assert f"Open the walk: https://walks.example/walks/{walk}?link=link-of-{number}" in content
    assert any(line.startswith("The walk is private.") for line in content)
    assert body_of(site.seen[0])["data"]["url"] == f"https://walks.example/api/v1/walks/{walk}?link=link-of-{number}"


def headers_of(request: str) -> dict[str, str]:
    head, _, _ = request.partition("\r\n\r\n")
    return dict(line.split(": ", 1) for line in head.split("\r\n")[1:])


def body_of(request: str) -> dict[str, object]:
    return dict(json.loads(request.partition("\r\n\r\n")[2]))


async def test_a_webhook_is_called_until_its_receiver_accepts_and_each_call_is_signed(engine):
    """Receivers restart, and a forged call must be told from a real one."""
    walk = await ended_walk(engine)
    async with web_site() as site:
        site.answers["/done?x=1"] = b"HTTP/1.1 500 Internal Server Error\r\n\r\n"
        await add_webhook(engine, walk, url_of(site, "/done?x=1"))
        with capture_logs() as log:
            async with notifying(engine, webhook_port=site.port):
                await until(lambda: len(site.seen) >= 2)
            # The next worker continues with what the database says.
            site.answers["/done?x=1"] = OK
            async with notifying(engine, webhook_port=site.port):
                await until_none_waits(engine)
    requests = [(headers_of(request), request.partition("\r\n\r\n")[2]) for request in site.seen]
    assert len({headers["webhook-id"] for headers, _ in requests}) == 1
    for headers, body in requests:
        content = Webhook(SECRET).verify(body, headers)
        assert content["data"] == {"id": walk, "state": "done", "url": f"https://walks.example/api/v1/walks/{walk}"}
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(body + " ", headers)
    assert site.seen[0].startswith("POST /done?x=1 HTTP/1.1\r\n")
    assert "receiver.example" not in str(log)


@pytest.mark.parametrize(
    ("answer", "calls"), [(b"HTTP/1.1 410 Gone\r\n\r\n", 1), (b"HTTP/1.1 404 Not Found\r\n\r\n", MAX_DELIVERIES)]
)
async def test_a_webhook_is_given_up_after_410_at_once_and_after_the_last_try(engine, url, answer, calls):
    """A receiver that says that it is gone must not be called for hours, nor any receiver for ever."""
    if calls > 1 and engine.dialect.name == "postgresql":
        pytest.skip("one database shows it")
    walk = await ended_walk(engine)
    async with web_site() as site:
        site.answers["/"] = answer
        await add_webhook(engine, walk, url_of(site))
        # So that the pauses between nine tries, each four times as long as the last one, are short.
        async with notifying(engine, webhook_port=site.port, first_pause_s=1e-6):
            await until_none_waits(engine)
    assert len(site.seen) == calls


def test_a_worker_that_is_killed_while_it_delivers_loses_nothing(url, tmp_path):
    """The next process finds the mail in the database; on PostgreSQL, another worker takes the job over."""
    with mail_server() as server:
        settings = {
            "MOMALISA_DATABASE_URL": url,
            "MOMALISA_LEASE_S": "1",
            "MOMALISA_PUBLIC_URL": "https://walks.example",
            "MOMALISA_SMTP_HOST": "127.0.0.1",
            "MOMALISA_SMTP_PORT": str(server.port),
            "MOMALISA_SMTP_TLS": "none",
            "MOMALISA_SMTP_FROM": "walks@walks.example",
        }
        server.hangs = True
        with serving(tmp_path, **settings) as (process, base):
            wait_until(lambda: answers(base))
            walk = httpx.post(f"{base}/api/v1/walks", json={"start": "a", "end": "b", "seed": 1})
            mail = {"address": f"{uuid4().hex}@example.com"}
            added = httpx.post(f"{base}{walk.json()['url']}/mail", json=mail, cookies=walk.cookies)
            assert added.json() == {"confirm": True}
            wait_until(lambda: server.held)
            process.kill()
            process.wait()
        assert server.received == []
        server.hangs = False
        with serving(tmp_path, **settings):
            wait_until(lambda: server.received)
    assert [mail["To"] for mail in server.mails] == [mail["address"]]


async def test_a_redirect_is_not_followed(engine):
    """It could lead to an internal address."""
    walk = await ended_walk(engine)
    async with web_site() as site:
        site.redirect("/", "/internal")
        await add_webhook(engine, walk, url_of(site))
        async with notifying(engine, webhook_port=site.port):
            await until(lambda: len(site.seen) >= 2)
    assert not any(" /internal " in request for request in site.seen)


async def test_the_address_of_a_webhook_is_checked_for_each_call():
    """A name can lead to a public address when the webhook is created, and to an internal one an hour later."""
    answers = [["127.0.0.1"], ["10.0.0.1"], ["127.0.0.1", "10.0.0.1"]]

    async def resolve(host: str, port: int) -> list[str]:
        return answers.pop(0)

    async with web_site() as site:
        site.answers["/"] = OK
        client = PinnedClient(frozenset({site.port}), resolve, allowed=lambda address: address == "127.0.0.1")
        notice = Notice(
            id="0" * 32,
            walk_id="1" * 32,
            owner="key:me",
            kind=NoticeKind.WEBHOOK,
            target=url_of(site),
            secret=SECRET,
            tries=0,
            created_at=datetime.now(UTC),
            state=State.DONE,
            private=False,
            walk_number=1,
        )
        await WebhookCaller(client).call(notice, "https://walks.example/")
        for _ in range(2):
            with pytest.raises(NotDelivered, match="the address is not allowed") as refused:
                await WebhookCaller(client).call(notice, "https://walks.example/")
            assert not refused.value.final
        assert len(site.seen) == 1


async def test_withdrawing_a_request_deletes_its_notices_and_those_of_others_stay(engine):
    """An address is kept no longer than it is needed; no code of any path that deletes requests can forget it."""
    catalogue = Catalogue(engine)
    walk, _ = await catalogue.request(spec(), "key:me")
    await catalogue.request(spec(), "key:you")
    await add_mail(engine, walk.id)
    await add_webhook(engine, walk.id, "http://receiver.example/")
    await add_mail(engine, walk.id, "key:you")
    await catalogue.withdraw(walk.id, "key:me")
    assert await count(engine) == 1
    await catalogue.remove(walk.id)
    assert await count(engine) == 0


async def test_notices_follow_a_request_to_its_new_owner(engine):
    """What a visitor requested before signing in becomes the user's."""
    walk, _ = await Catalogue(engine).request(spec(), "cookie:me")
    await add_mail(engine, walk.id, "cookie:me")
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE asks SET owner = 'user:me'"))
        assert await connection.scalar(select(notices.c.owner)) == "user:me"


async def test_only_owners_of_the_request_get_notices_and_not_without_limit(engine):
    """Each costs a connection to a stranger's server, or a mail."""
    walk, _ = await Catalogue(engine).request(spec(), "key:me")
    with pytest.raises(NotOwner):
        await add_webhook(engine, walk.id, "http://receiver.example/", "key:you")
    for _ in range(WEBHOOKS_PER_REQUEST):
        await add_webhook(engine, walk.id, "http://receiver.example/")
    with pytest.raises(QuotaExceeded, match="Delete one"):
        await add_webhook(engine, walk.id, "http://receiver.example/")
    book = NoticeBook(engine, per_owner=8)
    for _ in range(2):
        await add_mail(engine, walk.id)
    mail = (walk.id, NoticeKind.MAIL, ADDRESS, Applicant("key:me", "network", "x"))
    await book.add(*mail)
    with pytest.raises(QuotaExceeded, match="Daily limit of 8 mails and webhooks reached"):
        await book.add(*mail)
    assert await count(engine) == WEBHOOKS_PER_REQUEST + 1


async def test_limits_hold_for_requests_at_the_same_time(engine):
    """A script sends them in parallel."""
    walk, _ = await Catalogue(engine).request(spec(), "key:me")
    book, accepted = NoticeBook(engine, per_owner=3), list[str]()

    async def add() -> None:
        with suppress(QuotaExceeded):
            accepted.append(await book.add(walk.id, NoticeKind.MAIL, ADDRESS, Applicant("key:me", "network", "x")))

    async with anyio.create_task_group() as tasks:
        for _ in range(12):
            tasks.start_soon(add)
    assert len(accepted) == 3


async def test_the_example_in_the_documents_verifies_a_call(engine):
    """Receivers copy it."""
    [example] = re.findall(r"^```python\n(.*?)^```", (REPOSITORY / "docs" / "notices.md").read_text(), re.M | re.S)
    defined: dict[str, Any] = {}
    exec(example, defined)
    walk = await ended_walk(engine)
    async with web_site() as site:
        site.answers["/"] = OK
        await add_webhook(engine, walk, url_of(site))
        async with notifying(engine, webhook_port=site.port):
            await until_none_waits(engine)
    [request] = site.seen
    headers, body = headers_of(request), request.partition("\r\n\r\n")[2].encode()
    assert defined["verified"](SECRET, body, headers)["data"]["id"] == walk
    with pytest.raises(WebhookVerificationError):
        defined["verified"](SECRET, body, {**headers, "webhook-timestamp": "1700000000"})


def test_pauses_grow_to_hours_and_are_not_all_the_same():
    """A mail server that is away for the night must not cost anybody the mail."""
    pauses = [pause_s(failures) for failures in range(1, MAX_DELIVERIES)]
    assert pauses[0] < 2 * FIRST_DELIVERY_PAUSE_S
    assert timedelta(hours=9) < timedelta(seconds=sum(pauses)) < timedelta(hours=15)
    assert pauses != [pause_s(failures) for failures in range(1, MAX_DELIVERIES)]
