"""Who asks for walks, over HTTP and with nothing of the product's own."""

import ssl
from typing import Any, Final

import httpx

from tests.support.processes import wait_until

ENDED = ("done", "failed", "cancelled")
# Without one, httpx reads every certificate of the machine anew for each call, and who waits calls often.
TLS: Final = ssl.create_default_context()


class Client:
    """A visitor of the api at a url."""

    def __init__(self, url: str) -> None:
        self.url = url

    def awake(self) -> int:
        """How many replicas the api thinks awake; none where it does not answer."""
        try:
            return int(httpx.get(self.url + "/api/v1/model", verify=TLS).json()["replicas"]["awake"])
        except (httpx.HTTPError, ValueError, KeyError):
            return 0

    def ask(self, **wish: Any) -> dict[str, Any]:
        """POST a walk."""
        answer = httpx.post(self.url + "/api/v1/walks", json=wish, timeout=30, verify=TLS)
        assert answer.is_success, answer.text
        walk: dict[str, Any] = answer.json()
        return walk

    def read(self, walk: dict[str, Any]) -> dict[str, Any]:
        read: dict[str, Any] = httpx.get(self.url + walk["url"], timeout=30, verify=TLS).json()
        return read

    def ended(self, walk: dict[str, Any]) -> dict[str, Any]:
        """The walk once it has ended, whichever way."""
        # Looks cost the machine that is looked at: not too many.
        ended: dict[str, Any] = wait_until(
            lambda: now if (now := self._glance(walk)).get("state") in ENDED else None, every_s=0.1
        )
        return ended

    def fetch(self, path: str) -> bytes:
        answer = httpx.get(self.url + path, timeout=60, verify=TLS)
        assert answer.status_code == 200, answer.text
        return answer.content

    def _glance(self, walk: dict[str, Any]) -> dict[str, Any]:
        """The walk, or nothing of use where the api is away just now."""
        try:
            return self.read(walk)
        except (httpx.TransportError, ValueError):
            return {}
