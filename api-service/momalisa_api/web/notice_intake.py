"""Accepts requests for a mail or a call of a webhook when a walk ends. It sends nothing: workers do."""

import secrets
from base64 import b64encode
from dataclasses import dataclass
from typing import Final

import httpx

from momalisa_api.pictures.addresses import is_public
from momalisa_api.pictures.pinned import check_form, is_name
from momalisa_api.problems import AddressRefused, Invalid, NoMail
from momalisa_api.settings import Settings
from momalisa_api.store.mail_tokens import MailTokens
from momalisa_api.store.notice_limits import Applicant, NoticeBook
from momalisa_api.store.notices import NoticeKind
from momalisa_api.text import is_mail_address

NO_SERVER: Final = "The operator has set no mail server. Look at the walk's page, or use a webhook."
NOT_AN_ADDRESS: Final = "address must be a mail address in ASCII, such as you@example.com."
VERIFIED_ONLY: Final = "You are signed in, so mail goes to the address of your account. Send no other address."
WEBHOOK_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class MailCaller:
    """Who requests a mail. verified: the address of the account; bond: cookie that remembers a confirmed address."""

    owner: str
    network: str
    verified: str | None
    bond: str | None


class NoticeIntake:
    """Takes mail addresses and URLs in. Mail goes to verified or confirmed addresses only."""

    def __init__(self, settings: Settings, book: NoticeBook, tokens: MailTokens) -> None:
        self._sends_mail = settings.sends_mail
        self._ports = settings.named_webhook_ports
        self._book = book
        self._tokens = tokens

    async def mail(self, walk_id: str, caller: MailCaller, address: str | None) -> bool:
        """Have a mail sent when a walk ends. Returns whether the address must be confirmed first, by mail.

        Raises NoMail, Invalid, NotOwner, QuotaExceeded, MailStopped, CatalogueUnavailable.
        """
        if not self._sends_mail:
            raise NoMail(NO_SERVER)
        if caller.verified and address and address.lower() != caller.verified.lower():
            raise Invalid(VERIFIED_ONLY)
        target = caller.verified or address or ""
        if not is_mail_address(target):
            raise Invalid(NOT_AN_ADDRESS, [{"field": "address", "detail": "must be a mail address"}])
        applicant = Applicant(caller.owner, caller.network, self._tokens.digest(target))
        known = caller.verified or self._tokens.bonds(caller.bond, caller.owner, target)
        confirmed = bool(known) or await self._book.knows(applicant)
        kind = NoticeKind.MAIL if confirmed else NoticeKind.CONFIRM
        await self._book.add(walk_id, kind, target, applicant, verified=bool(caller.verified))
        return not confirmed

    async def confirm(self, token: str) -> tuple[str, bool] | None:
        """Confirm an address with the token from a mail.

        Returns the cookie that remembers it, and whether it is new; None for a token that is wrong or has expired.
        Raises MailStopped, NotOwner, CatalogueUnavailable.
        """
        found = self._tokens.read_confirmation(token)
        if not found:
            return None
        applicant = Applicant(found.owner, "", self._tokens.digest(found.address))
        new = await self._book.confirm(found.walk_id, found.address, applicant)
        return self._tokens.bond(found.owner, found.address), new

    async def stop(self, token: str) -> bool:
        """Stop all mail to an address with the token from a mail. Returns False for a token that is wrong."""
        address = self._tokens.read_stop(token)
        if address:
            await self._book.stop(address, self._tokens.digest(address))
        return address is not None

    async def webhook(self, walk_id: str, owner: str, network: str, url: str) -> tuple[str, str]:
        """Have a URL called when a walk ends. Returns the webhook's id, and the secret that signs its calls.

        Raises AddressRefused, NotOwner, QuotaExceeded, CatalogueUnavailable.
        """
        if not self._ports:
            raise AddressRefused("This deployment calls no webhooks. Watch the walk's events instead.")
        try:
            where = httpx.URL(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise AddressRefused("The address is not valid. Send one like https://example.com/done.") from error
        check_form(where, self._ports)
        # Names are looked up by workers only, for each call.
        if not is_name(where.host) and not is_public(where.host):
            raise AddressRefused("The address is not on the public internet.")
        secret = f"whsec_{b64encode(secrets.token_bytes(WEBHOOK_SECRET_BYTES)).decode()}"
        applicant = Applicant(owner, network)
        return await self._book.add(walk_id, NoticeKind.WEBHOOK, url, applicant, secret=secret), secret
