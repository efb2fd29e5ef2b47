"""Parts that deliver notices to servers on loopback, and walks that have ended without being rendered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.pictures.pinned import PinnedClient
from momalisa_api.settings import Settings
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.mail_tokens import MailTokens
from momalisa_api.store.notice_limits import Applicant, NoticeBook
from momalisa_api.store.notices import NoticeKind, Notices
from momalisa_api.store.notifications import Listener, WalkChanges
from momalisa_api.store.queue import open_queue
from momalisa_api.store.tables import walks
from momalisa_api.walks.walk import State
from momalisa_api.work.mail import Letters, Smtp
from momalisa_api.work.notices import Notifier
from momalisa_api.work.webhooks import WebhookCaller
from tests.support.factories import spec

ADDRESS = "you@example.com"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TOKENS = MailTokens("secret")


def mail_settings(port: int, **changes: Any) -> Settings:
    """Settings with a mail server on loopback."""
    defaults: dict[str, Any] = {
        "smtp_host": "127.0.0.1",
        "smtp_port": port,
        "smtp_tls": "none",
        "smtp_from": "Walks <walks@walks.example>",
        "public_url": "https://walks.example",
    }
    return Settings(**{**defaults, **changes})


def loopback_only(port: int) -> PinnedClient:
    """A client for which every host is at 127.0.0.1, and that is a public address."""

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    return PinnedClient(frozenset({port}), resolve, allowed=lambda address: address == "127.0.0.1")


async def ended_walk(engine: AsyncEngine, owner: str = "key:me", state: State = State.DONE, seed: int = 0) -> str:
    """The id of a walk that an owner requested, and that has ended."""
    walk, _ = await Catalogue(engine).request(spec(seed=seed), owner)
    async with engine.begin() as connection:
        await connection.execute(update(walks).where(walks.c.id == walk.id).values(state=state))
    return walk.id


async def add_mail(engine: AsyncEngine, walk_id: str, owner: str = "key:me") -> str:
    """Have a mail sent about a walk."""
    applicant = Applicant(owner, "network", TOKENS.digest(ADDRESS))
    return await NoticeBook(engine, 100).add(walk_id, NoticeKind.MAIL, ADDRESS, applicant, verified=True)


async def add_webhook(engine: AsyncEngine, walk_id: str, url: str, owner: str = "key:me") -> str:
    """Have a webhook called about a walk."""
    applicant = Applicant(owner, "network")
    return await NoticeBook(engine, 100).add(walk_id, NoticeKind.WEBHOOK, url, applicant, secret=SECRET)


@asynccontextmanager
async def notifying(
    engine: AsyncEngine, smtp_port: int = 1, webhook_port: int = 1, **limits: Any
) -> AsyncIterator[None]:
    """A worker that delivers notices while the block runs. limits: those of Notifier."""
    listener = Listener(engine)
    settings = mail_settings(smtp_port)
    async with open_queue(engine, listener, lease_s=1, poll_s=0.05) as queue, anyio.create_task_group() as tasks:
        notifier = Notifier(
            Notices(engine),
            NoticeBook(engine, 100),
            queue,
            WalkChanges(listener),
            WebhookCaller(loopback_only(webhook_port)),
            (Letters(settings, TOKENS), Smtp(settings)),
            public_url="https://walks.example",
            make_link=lambda walk_id, number, _: f"link-of-{number}",
            **{"poll_s": 0.05, "check_s": 0.05, "first_pause_s": 0.01, **limits},
        )
        tasks.start_soon(listener.run)
        tasks.start_soon(notifier.run)
        yield
        queue.end()
        await notifier.wait_stopped()
        tasks.cancel_scope.cancel()
