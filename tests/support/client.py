"""An HTTP client that requests walks and uses no code of the product."""

import ssl
from typing import Any, Final

import httpx

from tests.support.processes import wait_until

ENDED = ("done", "failed", "cancelled")
# Without a shared context, httpx reads every certificate of the machine for each call, and waiting takes many calls.
TLS: Final = ssl.create_default_context()


class Client:
    """A visitor of the API at a URL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def awake(self) -> int:
        """How many replicas the API counts as awake; 0 if it does not answer."""
        try:
            return int(httpx.get(self.url + "/api/v1/model", verify=TLS).json()["replicas"]["awake"])
        except (httpx.HTTPError, ValueError, KeyError):
            return 0

    def request_walk(self, **request: Any) -> dict[str, Any]:
        """POST a walk."""
        answer = httpx.post(self.url + "/api/v1/walks", json=request, timeout=30, verify=TLS)
        assert answer.is_success, answer.text
        walk: dict[str, Any] = answer.json()
        return walk

    def read(self, walk: dict[str, Any]) -> dict[str, Any]:
        read: dict[str, Any] = httpx.get(self.url + walk["url"], timeout=30, verify=TLS).json()
        return read

    def ended(self, walk: dict[str, Any]) -> dict[str, Any]:
        """The walk once it is done, failed or cancelled."""
        # Polling loads the API under test: not too often.
        ended: dict[str, Any] = wait_until(
            lambda: now if (now := self._read_if_available(walk)).get("state") in ENDED else None, every_s=0.1
        )
        return ended

    def fetch(self, path: str) -> bytes:
        answer = httpx.get(self.url + path, timeout=60, verify=TLS)
        assert answer.status_code == 200, answer.text
        return answer.content

    def _read_if_available(self, walk: dict[str, Any]) -> dict[str, Any]:
        """The walk, or an empty dictionary while the API is unavailable."""
        try:
            return self.read(walk)
        except (httpx.TransportError, ValueError):
            return {}
