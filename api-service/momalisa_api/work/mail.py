"""Mails to visitors, and the SMTP server that takes them. No mail has words that a visitor wrote."""

import smtplib
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from functools import partial
from html import escape
from typing import Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from momalisa_api.settings import Settings
from momalisa_api.store.mail_tokens import MailTokens
from momalisa_api.store.notices import Notice, NoticeKind
from momalisa_api.walks.walk import State
from momalisa_api.work.delivery import NotDelivered

# Of one step: connecting, or the answer to one command.
SMTP_STEP_S: Final = 15.0
SMTP_S: Final = 60.0
MAILS_AT_ONCE: Final = 4
_PERMANENT: Final = range(500, 600)
# Links must not be broken into lines, nor encoded in headers.
_POLICY: Final = policy.SMTP.clone(max_line_length=998)


@dataclass(frozen=True, slots=True)
class _Text:
    """What a mail says: subject, sentence, the label of its link, the link, and small print."""

    subject: str
    sentence: str
    label: str
    url: str
    notes: tuple[str, ...]


class Letters:
    """Writes mails."""

    def __init__(self, settings: Settings, tokens: MailTokens) -> None:
        """settings: with an SMTP server."""
        self._base = settings.public_url or ""
        name, self.sender = parseaddr(settings.smtp_from or "")
        local, _, domain = self.sender.partition("@")
        self._from = Address(name or "MoMALisa", local, domain)
        self._tokens = tokens

    def write(self, notice: Notice, page: str, expires: datetime | None) -> EmailMessage:
        """The mail of a notice. page: URL of the walk's page, which a signed link opens until `expires`."""
        stop = f"{self._base}/api/v1/mail/stop?token={self._tokens.stop(notice.target)}"
        host = urlsplit(self._base).netloc
        text = self._confirm(notice, host) if notice.kind is NoticeKind.CONFIRM else _ended(notice, page, expires)
        message = EmailMessage(_POLICY)
        message["From"] = self._from
        message["To"] = Address(addr_spec=notice.target)
        message["Subject"] = text.subject
        message["Date"] = format_datetime(datetime.now(UTC))
        # The same for each delivery, so that receivers can tell a repeated mail.
        message["Message-ID"] = f"<{notice.id}@{self._from.domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message["List-Unsubscribe"] = f"<{stop}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        footer = f"This mail comes from {host}, where somebody entered your address."
        message.set_content(_plain(text, footer, stop))
        message.add_alternative(_html(text, footer, stop), subtype="html")
        return message

    def _confirm(self, notice: Notice, host: str) -> _Text:
        token = self._tokens.confirmation(notice.walk_id, notice.owner, notice.target)
        return _Text(
            "Confirm your address",
            f"You asked {host} for a mail when a walk is done. Confirm that this address is yours to get it.",
            "Confirm",
            f"{self._base}/api/v1/mail/confirm?token={token}",
            ("The link works for 24 hours.", "If it was not you, ignore this mail: nothing else is sent to you."),
        )


class Smtp:
    """Hands mails to the SMTP server of the settings."""

    def __init__(
        self, settings: Settings, tls: ssl.SSLContext | None = None, step_s: float = SMTP_STEP_S, all_s: float = SMTP_S
    ) -> None:
        """tls: which certificates are valid, by default those that the system trusts; step_s, all_s: limits on time,
        of one step and of a mail.
        """
        self._settings = settings
        self._tls = tls or ssl.create_default_context()
        self._step_s = step_s
        self._all_s = all_s
        self._threads = anyio.CapacityLimiter(MAILS_AT_ONCE)

    async def send(self, message: EmailMessage, sender: str, to: str) -> None:
        """Send a mail. Raises NotDelivered; final if the server refuses the mail or its address for good."""
        try:
            with anyio.fail_after(self._all_s):
                send = partial(self._send, message, sender, to)
                await anyio.to_thread.run_sync(send, limiter=self._threads, abandon_on_cancel=True)
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            final = all(code in _PERMANENT for code in codes)
            raise NotDelivered(f"the server refuses the address: {codes}", final=final) from None
        except smtplib.SMTPDataError as error:
            raise NotDelivered(
                f"the server refuses the mail: {error.smtp_code}", final=error.smtp_code in _PERMANENT
            ) from None
        except smtplib.SMTPResponseException as error:
            raise NotDelivered(f"{type(error).__name__}: {error.smtp_code}") from None
        # TimeoutError is an OSError, and so are errors of TLS and of the password's file.
        except (smtplib.SMTPException, OSError) as error:
            raise NotDelivered(type(error).__name__) from None

    def _send(self, message: EmailMessage, sender: str, to: str) -> None:
        server = self._connect()
        try:
            if self._settings.smtp_tls == "starttls":
                # Raises SMTPNotSupportedError where somebody on the way has removed the offer.
                server.starttls(context=self._tls)
            if self._settings.smtp_user and self._settings.smtp_password_file:
                server.login(self._settings.smtp_user, self._settings.smtp_password_file.read_text().strip())
            server.send_message(message, sender, [to])
            # The server has the mail now: what happens from here on must not send it again.
            with suppress(smtplib.SMTPException, OSError):
                server.quit()
        finally:
            server.close()

    def _connect(self) -> smtplib.SMTP:
        host, port = self._settings.smtp_host or "", self._settings.smtp_port
        if self._settings.smtp_tls == "tls":
            return smtplib.SMTP_SSL(host, port, timeout=self._step_s, context=self._tls)
        return smtplib.SMTP(host, port, timeout=self._step_s)


def _ended(notice: Notice, page: str, expires: datetime | None) -> _Text:
    at = notice.created_at
    requested = f"The walk for which you requested a mail on {_date(at)} at {at:%H:%M} UTC"
    if notice.state is State.FAILED:
        subject, sentence = "Your walk failed", f"{requested} has failed. Its page says why."
    else:
        subject, sentence = "Your walk is done", f"{requested} is done."
    private = f"The walk is private. Whoever has this link can see it, until {_date(expires)}." if expires else ""
    return _Text(subject, sentence, "Open the walk", page, (private,) if private else ())


def _date(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y}"


def _plain(text: _Text, footer: str, stop: str) -> str:
    lines = [text.sentence, f"{text.label}: {text.url}", *text.notes, f"{footer} Stop all mail: {stop}"]
    return "\n\n".join(lines) + "\n"


def _html(text: _Text, footer: str, stop: str) -> str:
    notes = "".join(f"<p>{escape(note)}</p>\n" for note in text.notes)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(text.subject)}</title></head>\n'
        f'<body style="font:16px/1.5 sans-serif;max-width:32em">\n<p>{escape(text.sentence)}</p>\n'
        f'<p><a href="{escape(text.url)}">{escape(text.label)}</a></p>\n{notes}'
        f'<p style="color:#666;font-size:13px">{escape(footer)} <a href="{escape(stop)}">Stop all mail</a></p>\n'
        "</body></html>\n"
    )
