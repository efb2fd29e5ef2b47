"""Handing mails to a real SMTP server: encryption, login, and what its refusals and silences mean."""

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from momalisa_api.settings import Settings
from momalisa_api.store.notices import Notice, NoticeKind
from momalisa_api.walks.walk import State
from momalisa_api.work.delivery import NotDelivered
from momalisa_api.work.mail import Letters, Smtp
from tests.ops.certificates import certificate
from tests.support.mail_server import PASSWORD, USER, MailServer, mail_server
from tests.support.notices import ADDRESS, TOKENS, mail_settings

NOTICE = Notice(
    id="0" * 32,
    walk_id="1" * 32,
    owner="key:me",
    kind=NoticeKind.MAIL,
    target=ADDRESS,
    secret=None,
    tries=0,
    created_at=datetime.now(UTC),
    state=State.DONE,
    private=False,
    walk_number=1,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def login(tmp_path: Path) -> dict[str, Any]:
    """Settings of a server with TLS; its authority is ca.pem."""
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    return {"smtp_user": USER, "smtp_password_file": tmp_path / "password"}


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=folder / "ca.pem")


async def send(settings: Settings, tls: ssl.SSLContext | None = None, **limits: float) -> None:
    letters = Letters(settings, TOKENS)
    message = letters.write(NOTICE, "https://walks.example/walks/1", None)
    await Smtp(settings, tls, **limits).send(message, letters.sender, ADDRESS)


@pytest.mark.parametrize("mode", ["starttls", "tls"])
async def test_mail_is_encrypted_and_sent_after_a_login(tmp_path, login, mode):
    """Also at servers that expect TLS from the first byte."""
    with mail_server(certificate(tmp_path), tls=mode) as server:
        await send(mail_settings(server.port, smtp_tls=mode, **login), trusting(tmp_path))
    assert [(mail["To"], mail["From"]) for mail in server.mails] == [(ADDRESS, "Walks <walks@walks.example>")]
    assert (server.received[0].mail_from, server.logins) == ("walks@walks.example", 1)


@pytest.mark.parametrize("mode", ["starttls", "tls"])
async def test_a_server_with_another_certificate_gets_neither_mail_nor_password(tmp_path, login, mode):
    """Anybody on the way could read both."""
    with mail_server(certificate(tmp_path), tls=mode) as server:
        with pytest.raises(NotDelivered, match="SSLCertVerificationError") as failed:
            await send(mail_settings(server.port, smtp_tls=mode, **login))
        assert (failed.value.final, server.received) == (False, [])


async def test_a_server_without_encryption_gets_nothing():
    """Somebody on the way can remove the offer of STARTTLS from the server's answer."""
    with mail_server() as server:
        with pytest.raises(NotDelivered, match="SMTPNotSupportedError"):
            await send(mail_settings(server.port, smtp_tls="starttls"))
        assert server.received == []


async def test_a_wrong_password_is_tried_again_later(tmp_path, login):
    """The operator corrects it, and nobody has lost a mail."""
    login["smtp_password_file"].write_text("wrong")
    with mail_server(certificate(tmp_path), tls="starttls") as server:
        settings = mail_settings(server.port, smtp_tls="starttls", **login)
        with pytest.raises(NotDelivered, match="SMTPAuthenticationError: 535") as failed:
            await send(settings, trusting(tmp_path))
        assert not failed.value.final
        login["smtp_password_file"].write_text(PASSWORD)
        await send(settings, trusting(tmp_path))
    assert len(server.received) == 1


def refuse_address(server: MailServer, reply: str) -> None:
    server.address_replies = [reply]


def refuse_mail(server: MailServer, reply: str) -> None:
    server.mail_replies = [reply]


@pytest.mark.parametrize("refuse", [refuse_address, refuse_mail])
@pytest.mark.parametrize(("code", "final"), [(550, True), (450, False)])
async def test_refusals_for_good_are_told_from_those_for_now(refuse, code, final):
    """A mailbox that does not exist is not tried for hours, a full one is. The log must not have its address."""
    with mail_server() as server:
        refuse(server, f"{code} <{ADDRESS}> no")
        with pytest.raises(NotDelivered, match=str(code)) as failed:
            await send(mail_settings(server.port))
        assert (failed.value.final, ADDRESS in str(failed.value)) == (final, False)
        await send(mail_settings(server.port))
    assert len(server.received) == 1


async def test_a_server_that_breaks_or_does_not_answer_costs_a_try_and_some_time():
    """It must not hold up the mails of others, and the mail must not be lost."""
    with mail_server() as server:
        server.breaks = True
        with pytest.raises(NotDelivered, match="SMTPServerDisconnected"):
            await send(mail_settings(server.port))
        server.breaks, server.hangs = False, True
        for limits in ({"step_s": 0.1}, {"all_s": 0.3}):
            with pytest.raises(NotDelivered, match=r"TimeoutError|SMTPServerDisconnected"):
                await send(mail_settings(server.port), **limits)
        server.hangs = False
    with pytest.raises(NotDelivered, match="ConnectionRefusedError"):
        await send(mail_settings(server.port))


@pytest.mark.parametrize(
    "changes",
    [
        {"smtp_from": None},
        {"public_url": None},
        {"public_url": "walks.example"},
        {"public_url": "https://walks.example/?a=b"},
        {"smtp_from": "Walks"},
        {"smtp_from": "Walks <walks@walks.example>\nBcc: all@example.com"},
        {"smtp_user": "walks"},
        {"webhook_ports": "https"},
    ],
)
def test_incomplete_settings_end_the_start(changes):
    """With a sentence, and not with mails that fail later."""
    with pytest.raises(ValueError, match=r"MOMALISA_SMTP|must be|is not valid"):
        mail_settings(25, **changes)


def test_a_failed_walk_and_a_private_one_have_their_own_words():
    """And no mail has a word that a visitor wrote."""
    letters = Letters(mail_settings(25), TOKENS)
    expires = datetime(2026, 12, 7, tzinfo=UTC)
    mail = letters.write(NOTICE, "https://walks.example/walks/1?link=x", expires)
    assert "until 7 December 2026" in mail.as_string()
    assert "https://walks.example/walks/1?link=x" in mail.as_string()
