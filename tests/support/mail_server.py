"""A real SMTP server on loopback that keeps what it gets, and refuses, hangs or breaks connections on demand."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from tests.support.processes import free_port

USER, PASSWORD = "walks", "a password"


@dataclass
class MailServer:
    """The server. replies: of the next mails, or of the next addresses, in their order; hangs, breaks: at each mail;
    held: the number of mails for which it hung.
    """

    port: int
    received: list[Envelope] = field(default_factory=list)
    address_replies: list[str] = field(default_factory=list)
    mail_replies: list[str] = field(default_factory=list)
    logins: int = 0
    held: int = 0
    hangs: bool = False
    breaks: bool = False

    @property
    def mails(self) -> list[EmailMessage]:
        """What was accepted."""
        contents = [found.content for found in self.received if isinstance(found.content, bytes)]
        parsed = [message_from_bytes(content, policy=policy.default) for content in contents]
        return [mail for mail in parsed if isinstance(mail, EmailMessage)]

    def login(self, server: SMTP, _: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        known = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        self.logins += known
        return AuthResult(success=known, handled=False)

    async def handle_RCPT(self, server: SMTP, _: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        if self.address_replies:
            return self.address_replies.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _: Session, envelope: Envelope) -> str:
        self.held += self.hangs
        while self.hangs:
            await asyncio.sleep(0.01)
        if self.breaks and server.transport:
            server.transport.close()
            return "250 OK"
        if self.mail_replies:
            return self.mail_replies.pop(0)
        self.received.append(envelope)
        return "250 OK"


@contextmanager
def mail_server(certificate: Path | None = None, *, tls: str = "starttls", port: int = 0) -> Iterator[MailServer]:
    """The server while it serves. certificate: with its key; tls: starttls or tls."""
    server = MailServer(port or free_port())
    options: dict[str, Any] = {}
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        options = {"authenticator": server.login}
        if tls == "tls":
            # The library warns of a required login unless STARTTLS is required, too.
            options |= {"ssl_context": context, "auth_require_tls": False}
        else:
            options |= {"tls_context": context, "require_starttls": True, "auth_required": True}
    controller = Controller(server, "127.0.0.1", server.port, **options)
    controller.start()
    try:
        yield server
    finally:
        server.hangs = False
        controller.stop()
