"""Calls of a MoMALisa server over HTTP: connected, retried, and failing with a sentence. What is called is not here."""

import os
from pathlib import Path
from typing import Any, Final

import httpx
import stamina

from momalisa_api.cli.errors import CommandError
from momalisa_api.loopback import is_loopback

KEY_VARIABLE = "MOMALISA_API_KEY"
COOKIE_NEEDED = "urn:momalisa:problem:cookie-needed"
# UnicodeError: a host name of a proxy or a redirect that cannot be looked up.
REQUEST_ERRORS: Final = (httpx.RequestError, httpx.InvalidURL, UnicodeError)


class WalkError(CommandError):
    """No film was saved."""


class NotThere(WalkError):
    """The server has nothing at this address for the caller."""


class RefusedWithoutCookie(WalkError):
    """The server accepts the request together with the cookie that its answer has set."""


def connected(url: str) -> httpx.Client:
    """A client of the server at a URL, through the proxy that the environment names for it. Raises WalkError."""
    headers = _credentials()
    try:
        return httpx.Client(
            base_url=url, timeout=30, follow_redirects=True, trust_env=not is_loopback(url), headers=headers
        )
    except httpx.InvalidURL as error:
        raise WalkError(f"{url} or a proxy in the environment is not a valid address: {error}", 2) from error
    except (ImportError, ValueError) as error:
        # A SOCKS proxy needs another package, and there are kinds of proxies that httpx does not know.
        raise WalkError(
            f"The proxy that the environment names cannot be used: {error} Use an HTTP proxy, or unset ALL_PROXY.", 2
        ) from error
    except OSError as error:
        raise WalkError(
            f"The certificates in SSL_CERT_FILE or SSL_CERT_DIR cannot be read: {error.strerror or error}.", 2
        ) from error


def call(client: httpx.Client, method: str, url: str, **options: Any) -> httpx.Response:
    """A call that is retried while the server cannot be reached. Raises WalkError."""
    try:
        for attempt in stamina.retry_context(on=httpx.TransportError, attempts=4, wait_initial=0.2):
            with attempt:
                response = client.request(method, url, **options)
    except httpx.TransportError as error:
        raise WalkError(f"No server responds at {client.base_url} ({error}). Start one with `make up`.", 3) from error
    except REQUEST_ERRORS as error:
        raise WalkError(f"The server at {client.base_url} is not a MoMALisa server: {error}", 3) from error
    _raise_problem(response)
    return response


def call_with_cookie(client: httpx.Client, method: str, url: str, **options: Any) -> httpx.Response:
    """A call that is sent again if the server refuses it until it has the cookie that it sets. Raises WalkError."""
    try:
        return call(client, method, url, **options)
    except RefusedWithoutCookie:
        return call(client, method, url, **options)


def save(client: httpx.Client, url: str, out: Path) -> None:
    """Stream what is at a URL into a file, which is created only when it is complete. Raises WalkError."""
    aside = out.with_name(f".{out.name}.part")
    try:
        with client.stream("GET", url) as response, aside.open("wb") as file:
            if response.is_error:
                response.read()
            _raise_problem(response)
            for chunk in response.iter_bytes():
                file.write(chunk)
        aside.replace(out)
    except REQUEST_ERRORS as error:
        raise WalkError(f"{out.name} could not be downloaded: {error}", 3) from error
    except OSError as error:
        raise WalkError(f"Could not write {out}: {error}", 2) from error
    finally:
        aside.unlink(missing_ok=True)


def _credentials() -> dict[str, str]:
    """The API key or ID token in the environment, as headers. Arguments can be read by all users of a machine."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise WalkError(f"{KEY_VARIABLE} is not an API key: it has characters that no key has.", 2)
    return {"Authorization": f"Bearer {key}"} if key else {}


def _raise_problem(response: httpx.Response) -> None:
    """Raises WalkError with the title and detail of a problem document."""
    if not response.is_error:
        return
    kind = NotThere if response.status_code == 404 else WalkError
    try:
        problem = response.json()
        message = f"{problem['title']}: {problem['detail']}"
        kind = RefusedWithoutCookie if problem.get("type") == COOKIE_NEEDED else kind
    except (ValueError, KeyError, TypeError, AttributeError):
        message = f"The server responded with status {response.status_code} and no explanation."
    raise kind(message, 2 if response.status_code < 500 else 1)
