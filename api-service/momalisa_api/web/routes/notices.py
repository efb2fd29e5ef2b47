"""Told when it is done: a mail or a call of a webhook when a walk ends. Only owners of its request can have them."""

from typing import Annotated, Final

from fastapi import APIRouter, Cookie, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from momalisa_api.problems import (
    AddressRefused,
    BodyTooLarge,
    Invalid,
    MailStopped,
    NoMail,
    NotOwner,
    QuotaExceeded,
    TokenRefused,
    WebhookNotFound,
)
from momalisa_api.store.notices import NOT_REQUESTED
from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.web.notice_intake import MailCaller
from momalisa_api.web.problem_json import documented
from momalisa_api.web.routes.access import READING, KnownWalk
from momalisa_api.web.routes.auth import Caller, Network, VerifiedEmail
from momalisa_api.web.routes.deps import NoticeIntakeDep, NoticesDep

MAIL_COOKIE: Final = "momalisa_mail"
NOT_JSON: Final = {"description": "The body is not valid JSON", "content": documented(Invalid)[422]["content"]}

router = APIRouter(tags=["notices"])

Bond = Annotated[str | None, Cookie(alias=MAIL_COOKIE, include_in_schema=False)]
WebhookId = Annotated[str, Path(description="The webhook's id.", pattern="^[0-9a-f]{32}$")]


class MailRequest(BaseModel):
    """Where a mail is to go."""

    model_config = ConfigDict(extra="forbid")

    address: str | None = Field(
        None,
        description="Your mail address. Leave it out if you are signed in: mail goes to the address of your account.",
        examples=["you@example.com"],
        max_length=254,
    )


class MailResource(BaseModel):
    """Whether the mail waits for you."""

    confirm: bool = Field(
        description="Whether the address must be confirmed first, with the link in a mail that was sent to it."
    )


class WebhookRequest(BaseModel):
    """What is to be called."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(
        description="An http or https address on the public internet. It gets a POST when the walk is done or failed.",
        examples=["https://example.com/walk-done"],
        min_length=1,
        max_length=2000,
    )


class WebhookResource(BaseModel):
    """A webhook that waits for the end of a walk."""

    id: str = Field(description="Deletes the webhook.")
    secret: str = Field(description="Signs the call, as Standard Webhooks describes. It is shown only here.")


@router.post(
    "/walks/{walk_id}/mail",
    summary="Get a mail when the walk is done",
    status_code=202,
    responses={
        400: NOT_JSON,
        **documented(*READING, TokenRefused, NotOwner, NoMail, BodyTooLarge, MailStopped, QuotaExceeded),
    },
)
async def request_mail(
    found: KnownWalk,
    intake: NoticeIntakeDep,
    caller: Caller,
    network: Network,
    verified: VerifiedEmail,
    request: MailRequest | None = None,
    bond: Bond = None,
) -> MailResource:
    """Get a mail with a link when a walk that you requested is done or has failed.

    If you are signed in, it goes to the address of your account. Any other address gets a mail with a link that
    confirms it first. The address is deleted as soon as the mail is sent, or the walk is withdrawn.
    """
    owner = _owner_of(caller)
    address = request.address if request else None
    return MailResource(confirm=await intake.mail(found.id, MailCaller(owner, network, verified, bond), address))


@router.delete(
    "/walks/{walk_id}/mail",
    summary="Take back the mail",
    status_code=204,
    responses=documented(*READING, TokenRefused, NotOwner),
)
async def withdraw_mail(found: KnownWalk, notices: NoticesDep, caller: Caller) -> None:
    """Take back your mail about a walk. Its address is deleted."""
    await notices.remove_mail(found.id, _owner_of(caller))


@router.post(
    "/walks/{walk_id}/webhooks",
    summary="Have a webhook called when the walk is done",
    status_code=201,
    responses={
        400: NOT_JSON,
        **documented(*READING, TokenRefused, NotOwner, BodyTooLarge, AddressRefused, QuotaExceeded),
    },
)
async def create_webhook(
    request: WebhookRequest,
    found: KnownWalk,
    intake: NoticeIntakeDep,
    caller: Caller,
    network: Network,
    response: Response,
) -> WebhookResource:
    """Have a URL called when a walk that you requested is done or has failed.

    The call is a POST with a JSON body, signed as Standard Webhooks describes. It is repeated, for hours, until the
    answer has a status of 2xx, or 410.
    """
    identity, secret = await intake.webhook(found.id, _owner_of(caller), network, request.url)
    response.headers["Cache-Control"] = "no-store"
    return WebhookResource(id=identity, secret=secret)


@router.delete(
    "/walks/{walk_id}/webhooks/{webhook_id}",
    summary="Delete a webhook",
    status_code=204,
    responses=documented(*READING, TokenRefused, NotOwner, WebhookNotFound),
)
async def delete_webhook(found: KnownWalk, webhook_id: WebhookId, notices: NoticesDep, caller: Caller) -> None:
    """Delete one of your webhooks that has not been called yet."""
    if not await notices.remove_webhook(found.id, _owner_of(caller), webhook_id):
        raise WebhookNotFound("This walk has no webhook of yours with this id: it may have been called already.")


def _owner_of(caller: str) -> str:
    """The caller, who must have a key or cookie: anonymous callers share one owner."""
    if caller == ANONYMOUS:
        raise NotOwner(NOT_REQUESTED)
    return caller
