"""Calls webhooks, signed as Standard Webhooks describes: https://github.com/standard-webhooks/standard-webhooks."""

import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import anyio
import httpx

from momalisa_api import __version__
from momalisa_api.pictures.pinned import PinnedClient, check_form, first_answer
from momalisa_api.problems import AddressRefused
from momalisa_api.store.notices import Notice
from momalisa_api.work.delivery import NotDelivered

WEBHOOK_S: Final = 15.0
WEBHOOK_HEADERS: Final = {"User-Agent": f"MoMALisa/{__version__}", "Content-Type": "application/json"}


class WebhookCaller:
    """Calls the URLs of webhooks: at public addresses only, each checked again for each call."""

    def __init__(self, client: PinnedClient) -> None:
        self._client = client

    async def call(self, notice: Notice, url: str) -> None:
        """Call a webhook. url: of the walk in the API. Raises NotDelivered; final if the receiver answers 410."""
        body = json.dumps(
            {
                "type": f"walk.{notice.state}",
                "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
                "data": {"id": notice.walk_id, "state": notice.state, "url": url},
            }
        ).encode()
        try:
            with anyio.fail_after(WEBHOOK_S):
                status = await self._post(notice.target, body, signed(notice, body))
        except AddressRefused:
            raise NotDelivered("the address is not allowed") from None
        # TimeoutError is an OSError, and so are errors of name resolution.
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise NotDelivered(type(error).__name__) from None
        if not HTTPStatus(200) <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise NotDelivered(f"the receiver answers {status}", final=status == HTTPStatus.GONE)

    async def _post(self, target: str, body: bytes, headers: dict[str, str]) -> int:
        where = httpx.URL(target)
        # The operator may have changed the ports since.
        check_form(where, self._client.ports)
        addresses = await self._client.addresses(where)
        async with self._client.client(WEBHOOK_HEADERS) as client:
            answer = await first_answer(client, where, addresses, method="POST", content=body, headers=headers)
            await answer.aclose()
        return answer.status_code


def signed(notice: Notice, body: bytes) -> dict[str, str]:
    """The headers that identify and sign a call. The id is the same for each delivery of a notice."""
    identity, timestamp = f"msg_{notice.id}", str(int(datetime.now(UTC).timestamp()))
    key = b64decode((notice.secret or "").removeprefix("whsec_"))
    digest = hmac.new(key, f"{identity}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    signature = f"v1,{b64encode(digest).decode()}"
    return {"webhook-id": identity, "webhook-timestamp": timestamp, "webhook-signature": signature}
