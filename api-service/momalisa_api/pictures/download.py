"""Fetches a file from a visitor's URL."""

import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import anyio
import httpx

from momalisa_api import __version__
from momalisa_api.pictures.addresses import is_public
from momalisa_api.pictures.pinned import PinnedClient, Resolve, check_form, first_answer
from momalisa_api.problems import AddressRefused, FetchFailed

FETCH_S: Final = 30.0
MAX_REDIRECTS: Final = 3
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
FETCH_HEADERS: Final = {
    "User-Agent": f"MoMALisa/{__version__}",
    "Accept": "image/avif,image/webp,image/png,image/jpeg,image/gif,video/mp4,video/quicktime,video/webm",
    # The size limit counts what arrives, so nothing may grow here.
    "Accept-Encoding": "identity",
}
ELSEWHERE: Final = "Upload the file instead."


class Downloads:
    """Fetches files, from public addresses only."""

    def __init__(
        self,
        ports: frozenset[int],
        resolve: Resolve | None = None,
        allowed: Callable[[str], bool] = is_public,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """The parameters are those of PinnedClient."""
        self._pinned = PinnedClient(ports, resolve, allowed, tls)

    async def fetch(self, url: str, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Fetch the bytes behind a URL within `FETCH_S` seconds. write: gets each chunk, and limits their number.

        Raises AddressRefused before a connection is made, FetchFailed, and what `write` raises.
        """
        try:
            with anyio.fail_after(FETCH_S):
                await self._follow(self._checked(url), write)
        except TimeoutError:
            raise FetchFailed(f"The file did not arrive within {FETCH_S:.0f} seconds. {ELSEWHERE}") from None

    async def _follow(self, where: httpx.URL, write: Callable[[bytes], Awaitable[None]]) -> None:
        for _ in range(MAX_REDIRECTS + 1):
            addresses = await self._addresses(where)
            async with self._pinned.client(FETCH_HEADERS) as client:
                response = await _answer(client, where, addresses)
                try:
                    if response.status_code not in REDIRECTS:
                        await _copy(response, write)
                        return
                finally:
                    await response.aclose()
            where = self._checked(_location(response), where)
        raise FetchFailed(f"The address redirects more than {MAX_REDIRECTS} times. {ELSEWHERE}")

    def _checked(self, url: str, base: httpx.URL | None = None) -> httpx.URL:
        """The URL, if its form is allowed. base: of one that may be relative. Raises AddressRefused."""
        try:
            where = base.join(url) if base else httpx.URL(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise AddressRefused("The address is not valid. Send one like https://example.com/cat.jpg.") from error
        if not self._pinned.ports:
            raise AddressRefused(f"This deployment fetches no files. {ELSEWHERE}")
        check_form(where, self._pinned.ports)
        return where

    async def _addresses(self, where: httpx.URL) -> list[str]:
        """The addresses of the URL's host. Raises AddressRefused if one of them is not public, FetchFailed."""
        try:
            return await self._pinned.addresses(where)
        except (OSError, UnicodeError) as error:
            raise FetchFailed(
                "The host name was not found. Correct the address, or upload the file instead."
            ) from error


async def _answer(client: httpx.AsyncClient, where: httpx.URL, addresses: list[str]) -> httpx.Response:
    """The response of the first address that accepts a connection. Raises FetchFailed."""
    try:
        return await first_answer(client, where, addresses)
    except httpx.ConnectError as error:
        raise FetchFailed(
            f"The address does not accept connections. Correct it, or try again later. {ELSEWHERE}"
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise FetchFailed(f"The address does not answer. Try again later. {ELSEWHERE}") from error


async def _copy(response: httpx.Response, write: Callable[[bytes], Awaitable[None]]) -> None:
    """Write the bytes of a successful response, as they were sent. Raises FetchFailed."""
    if response.status_code != HTTPStatus.OK:
        raise FetchFailed(f"The address answers with status {response.status_code}. Correct it. {ELSEWHERE}")
    try:
        async for chunk in response.aiter_raw():
            await write(chunk)
    except httpx.HTTPError as error:
        raise FetchFailed(f"The connection broke before the end. Try again. {ELSEWHERE}") from error


def _location(response: httpx.Response) -> str:
    location = response.headers.get("location")
    if not location:
        raise FetchFailed(f"The address redirects to nowhere. Correct it. {ELSEWHERE}")
    return str(location)
