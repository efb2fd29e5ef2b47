"""`momalisa walk`: requests a walk from a server, shows its progress, saves the film."""

import math
import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import stamina
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from momalisa_api.cli.errors import CommandError, printable
from momalisa_api.cli.picture_files import uploaded
from momalisa_api.loopback import is_loopback

WALK_POLL_S = 0.25
CANCEL_TIMEOUT_S = 10.0
UPLOAD_TIMEOUT_S = 150.0
COOKIE_NEEDED = "urn:momalisa:problem:cookie-needed"
WalkJson = dict[str, Any]
# UnicodeError: a host name of a proxy or a redirect that cannot be looked up.
KEY_VARIABLE = "MOMALISA_API_KEY"
REQUEST_ERRORS: Final = (httpx.RequestError, httpx.InvalidURL, UnicodeError)
# What this client reads of a walk.
FIELDS: Final = frozenset(
    (
        *("url", "state", "spec", "seed", "frames_ready", "probes", "warnings", "smoothness", "error"),
        *("queue_position", "replicas_awake", "seconds_left"),
    )
)


class WalkError(CommandError):
    """No film was saved."""


class RefusedWithoutCookie(WalkError):
    """The server accepts the request together with the cookie that its answer has set."""


def request_and_save(url: str, request: dict[str, Any], film: str, out: Path) -> WalkJson:
    """Request a walk, show its progress, save one of its films. Returns the finished walk.

    Its stops may be picture files, which are uploaded first.
    film: the film's name in the API, for example walk.gif. Ctrl-C cancels the request. Raises WalkError.
    """
    stamina.instrumentation.set_on_retry_hooks([])  # their log would mix with output that scripts parse
    with _connect(url) as client:
        stops = [uploaded(stop, partial(_upload, client)) for stop in request["stops"]]
        walk = _post(client, {**request, "stops": stops})
        try:
            walk = _watch(client, walk)
        except KeyboardInterrupt:
            # If this fails, the walk is rendered for nothing, which does no harm.
            with suppress(httpx.HTTPError):
                client.delete(walk["url"], timeout=CANCEL_TIMEOUT_S)
            raise
        _save(client, f"{walk['url']}/{film}", out)
        if walk.get("private"):
            # The cookie that opens it ends with this command.
            walk["link"] = _call(client, "POST", f"{walk['url']}/links", json={}).json()
    return walk


def check_model(url: str, model: str, revision: str) -> None:
    """Raises WalkError if a server renders with other weights than these: their pictures would differ."""
    with _connect(url) as client:
        answer = _call(client, "GET", "/api/v1/models")
    try:
        cards = [offered["card"] for offered in answer.json()["models"]]
        loaded = [(card["model"], card["revision"]) for card in cards]
    except (ValueError, KeyError, TypeError) as error:
        raise WalkError(f"The server at {url} is not a MoMALisa server, or one of another version.", 3) from error
    if (model, revision) not in loaded:
        renders = ", or ".join(f"{name} at revision {one}" for name, one in loaded) or "no model yet"
        raise WalkError(
            f"The film was made with {model} at revision {revision}, but the server at {url} renders with {renders}. "
            "Use a server with the film's model, or begin a new walk from its --show.",
            2,
        )


def _connect(url: str) -> httpx.Client:
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


def _credentials() -> dict[str, str]:
    """The API key or ID token in the environment, as headers. Arguments can be read by all users of a machine."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise WalkError(f"{KEY_VARIABLE} is not an API key: it has characters that no key has.", 2)
    return {"Authorization": f"Bearer {key}"} if key else {}


def summary(walk: WalkJson, out: Path) -> str:
    """One line about a saved film."""
    spec = walk["spec"]
    text = f"{out}: {spec['frames']} frames, {' -> '.join(map(_title, spec['stops']))}, seed {walk['seed']}"
    link = walk.get("link")
    shared = (
        f"\nPrivate. Whoever has this link can open it until {link['expires_at'][:10]}: {link['url']}" if link else ""
    )
    return f"{text}{_smoothness(walk['smoothness'])}{shared}"


def _title(stop: str | dict[str, Any]) -> str:
    return stop if isinstance(stop, str) else stop["prompt"] or "a picture"


def _smoothness(smoothness: dict[str, Any] | None) -> str:
    if not smoothness or smoothness["evenness"] is None:
        return ""
    return f", evenness {smoothness['evenness']:.2f}, sharpness {smoothness['sharpness'] or 0:.2f}"


def _watch(client: httpx.Client, walk: WalkJson) -> WalkJson:
    """Show the progress of a walk until it is done. Raises WalkError if it failed or was cancelled."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=_console()) as bar:
        task = bar.add_task("", total=walk["spec"]["frames"], left="")
        while True:
            bar.update(task, completed=_completed(walk), description=_state(walk), left=_time_left(walk))
            if walk["state"] in ("done", "failed", "cancelled"):
                break
            time.sleep(WALK_POLL_S)
            walk = _read(client, "GET", walk["url"])
    for warning in walk["warnings"]:
        bar.console.print(f"Note: {printable(str(warning))}", markup=False)
    if walk["state"] != "done":
        raise WalkError(walk["error"] or "The walk was cancelled.", 1)
    return walk


def _console() -> Console:
    """Standard error. rich would fail at a width or height that consists of other digits than 0 to 9."""
    for name in ("COLUMNS", "LINES"):
        if not os.environ.get(name, "").isascii():
            del os.environ[name]
    return Console(stderr=True)


def _state(walk: WalkJson) -> str:
    if walk["state"] in ("waiting", "rendering") and not walk["replicas_awake"]:
        return "waiting for a replica to start"
    if walk["probes"]:
        return "finding even steps"
    if walk["state"] == "waiting":
        return "waiting" if walk["queue_position"] is None else f"number {walk['queue_position']} in the queue"
    return str(walk["state"])


def _completed(walk: WalkJson) -> int:
    return len(walk["frames_ready"]) or len(walk["probes"])


def _time_left(walk: WalkJson) -> str:
    return "" if walk["seconds_left"] is None else f"about {math.ceil(walk['seconds_left'])} s"


def _upload(client: httpx.Client, content: bytes) -> dict[str, Any]:
    """Upload a picture. The answer sets the cookie by which the server knows its owner."""
    send = partial(_call, client, "POST", "/api/v1/pictures", content=content, timeout=UPLOAD_TIMEOUT_S)
    try:
        answer = send()
    except RefusedWithoutCookie:
        answer = send()
    try:
        picture: dict[str, Any] = answer.json()
        return {"id": picture["id"]}
    except (ValueError, KeyError, TypeError) as error:
        raise WalkError(f"The server at {client.base_url} is not a MoMALisa server, or an older one.", 3) from error


def _post(client: httpx.Client, request: dict[str, Any]) -> WalkJson:
    """Request the walk, a second time if the server refuses it until it is sent with the cookie that it sets."""
    try:
        return _read(client, "POST", "/api/v1/walks", json=request)
    except RefusedWithoutCookie:
        return _read(client, "POST", "/api/v1/walks", json=request)


def _read(client: httpx.Client, method: str, url: str, **options: Any) -> WalkJson:
    """A call that returns a walk. Raises WalkError."""
    response = _call(client, method, url, **options)
    try:
        walk: WalkJson = response.json()
    except ValueError:
        walk = {}
    if not isinstance(walk, dict) or not walk.keys() >= FIELDS:
        raise WalkError(f"The server at {client.base_url} is not a MoMALisa server, or one of another version.", 3)
    return walk


def _call(client: httpx.Client, method: str, url: str, **options: Any) -> httpx.Response:
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


def _save(client: httpx.Client, url: str, out: Path) -> None:
    """Stream a film into a file, which is created only when it is complete."""
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
        raise WalkError(f"The film could not be downloaded: {error}", 3) from error
    except OSError as error:
        raise WalkError(f"Could not write {out}: {error}", 2) from error
    finally:
        aside.unlink(missing_ok=True)


def _raise_problem(response: httpx.Response) -> None:
    """Raises WalkError with the title and detail of a problem document."""
    if not response.is_error:
        return
    kind = WalkError
    try:
        problem = response.json()
        message = f"{problem['title']}: {problem['detail']}"
        kind = RefusedWithoutCookie if problem.get("type") == COOKIE_NEEDED else WalkError
    except (ValueError, KeyError, TypeError, AttributeError):
        message = f"The server responded with status {response.status_code} and no explanation."
    raise kind(message, 2 if response.status_code < 500 else 1)
