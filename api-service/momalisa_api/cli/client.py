"""`momalisa walk`: requests a walk from a server, shows its progress, saves the film."""

import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import stamina
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

WALK_POLL_S = 0.25
CANCEL_TIMEOUT_S = 10.0
COOKIE_NEEDED = "urn:momalisa:problem:cookie-needed"
WalkJson = dict[str, Any]


class WalkError(Exception):
    """No film was saved. str(error) is a message for people, `exit_code` a code for scripts."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RefusedWithoutCookie(WalkError):
    """The server accepts the request together with the cookie that its answer has set."""


def request_and_save(url: str, request: dict[str, Any], film: str, out: Path) -> WalkJson:
    """Request a walk, show its progress, save one of its films. Returns the finished walk.

    film: the film's name in the API, for example walk.gif. Ctrl-C cancels the request. Raises WalkError.
    """
    stamina.instrumentation.set_on_retry_hooks([])  # their log would mix with output that scripts parse
    with httpx.Client(base_url=url, timeout=30, follow_redirects=True) as client:
        walk = _post(client, request)
        try:
            walk = _watch(client, walk)
        except KeyboardInterrupt:
            # If this fails, the walk is rendered for nothing, which does no harm.
            with suppress(httpx.HTTPError):
                client.delete(walk["url"], timeout=CANCEL_TIMEOUT_S)
            raise
        _save(client, f"{walk['url']}/{film}", out)
    return walk


def summary(walk: WalkJson, out: Path) -> str:
    """One line about a saved film."""
    spec = walk["spec"]
    text = f"{out}: {spec['frames']} frames, {' -> '.join(spec['stops'])}, seed {walk['seed']}"
    return f"{text}{_smoothness(walk['smoothness'])}"


def _smoothness(smoothness: dict[str, Any] | None) -> str:
    if not smoothness or smoothness["evenness"] is None:
        return ""
    return f", evenness {smoothness['evenness']:.2f}, sharpness {smoothness['sharpness'] or 0:.2f}"


def _watch(client: httpx.Client, walk: WalkJson) -> WalkJson:
    """Show the progress of a walk until it is done. Raises WalkError if it failed or was cancelled."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=walk["spec"]["frames"], left="")
        while True:
            bar.update(task, completed=_completed(walk), description=_state(walk), left=_time_left(walk))
            if walk["state"] in ("done", "failed", "cancelled"):
                break
            time.sleep(WALK_POLL_S)
            walk = _read(client, "GET", walk["url"])
    for warning in walk["warnings"]:
        bar.console.print(f"Note: {warning}", markup=False)
    if walk["state"] != "done":
        raise WalkError(walk["error"] or "The walk was cancelled.", 1)
    return walk


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


def _post(client: httpx.Client, request: dict[str, Any]) -> WalkJson:
    """Request the walk, a second time if the server refuses it until it is sent with the cookie that it sets."""
    try:
        return _read(client, "POST", "/api/v1/walks", json=request)
    except RefusedWithoutCookie:
        return _read(client, "POST", "/api/v1/walks", json=request)


def _read(client: httpx.Client, method: str, url: str, **options: Any) -> WalkJson:
    """A call that returns a walk, retried while the server cannot be reached. Raises WalkError."""
    try:
        for attempt in stamina.retry_context(on=httpx.TransportError, attempts=4, wait_initial=0.2):
            with attempt:
                response = client.request(method, url, **options)
    except httpx.TransportError as error:
        raise WalkError(f"No server responds at {client.base_url} ({error}). Start one with `make up`.", 3) from error
    _raise_problem(response)
    try:
        walk: WalkJson = response.json()
        return {**walk, "url": walk["url"]}
    except (ValueError, KeyError, TypeError) as error:
        raise WalkError(f"The server at {client.base_url} is not a MoMALisa server.", 3) from error


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
    except httpx.TransportError as error:
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
