"""What `momalisa walk` and the commands of the other kinds do: upload, request a walk, show its progress, save it."""

import math
import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import stamina
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from momalisa_api.cli.errors import printable
from momalisa_api.cli.server_calls import NotThere, WalkError, call, call_with_cookie, connected, save
from momalisa_api.cli.uploads import with_uploads

WALK_POLL_S = 0.25
CANCEL_TIMEOUT_S = 10.0
UPLOAD_TIMEOUT_S = 150.0
WalkJson = dict[str, Any]
# What this client reads of a walk.
FIELDS: Final = frozenset(
    (
        *("url", "state", "spec", "seed", "frames_ready", "probes", "warnings", "smoothness", "error"),
        *("queue_position", "replicas_awake", "seconds_left"),
    )
)
# A server must not choose where a file is written.
EXTRA_NAME: Final = re.compile(r"[a-z0-9-]{1,40}\.(png|json)")


def request_and_save(url: str, request: dict[str, Any], film: str, out: Path, extras: Path | None = None) -> WalkJson:
    """Request a walk, show its progress, save one of its films. Returns the finished walk.

    The request may contain uploads (`cli/uploads.py`), which are sent first. film: its name in the API, for example
    walk.gif or frames/{last}.png. extras: the folder for the walk's other files. Ctrl-C cancels the request. Raises
    WalkError.
    """
    stamina.instrumentation.set_on_retry_hooks([])  # their log would mix with output that scripts parse
    with connected(url) as client:
        body = with_uploads(request, partial(_upload, client))
        walk = _walk_of(client, call_with_cookie(client, "POST", "/api/v1/walks", json=body))
        try:
            walk = _watch(client, walk)
        except KeyboardInterrupt:
            # If this fails, the walk is rendered for nothing, which does no harm.
            with suppress(httpx.HTTPError):
                client.delete(walk["url"], timeout=CANCEL_TIMEOUT_S)
            raise
        save(client, f"{walk['url']}/{film.format(last=walk['spec']['frames'] - 1)}", out)
        if extras:
            _save_extras(client, walk, extras)
        if walk.get("private"):
            # The cookie that opens it ends with this command.
            walk["link"] = call(client, "POST", f"{walk['url']}/links", json={}).json()
    return walk


def check_model(url: str, model: str, revision: str) -> None:
    """Raises WalkError if a server renders with other weights than these: their pictures would differ."""
    with connected(url) as client:
        answer = call(client, "GET", "/api/v1/models")
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


def missing(url: str, paths: Iterable[str]) -> list[str]:
    """Those of some paths of the API where a server has nothing for the caller. Raises WalkError."""
    found = []
    with connected(url) as client:
        for path in paths:
            try:
                call(client, "GET", path)
            except NotThere:
                found.append(path)
    return found


def _upload(client: httpx.Client, path: str, source: bytes | dict[str, Any]) -> str:
    """Upload a file, or have the server take it from where JSON says. Returns its id.

    The answer sets the cookie by which the server knows its owner.
    """
    body = {"content": source} if isinstance(source, bytes) else {"json": source}
    answer = call_with_cookie(client, "POST", path, timeout=UPLOAD_TIMEOUT_S, **body)
    try:
        return str(answer.json()["id"])
    except (ValueError, KeyError, TypeError) as error:
        raise WalkError(f"The server at {client.base_url} is not a MoMALisa server, or an older one.", 3) from error


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
            walk = _walk_of(client, call(client, "GET", walk["url"]))
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


def _walk_of(client: httpx.Client, response: httpx.Response) -> WalkJson:
    """The walk in a response. Raises WalkError."""
    try:
        walk: WalkJson = response.json()
    except ValueError:
        walk = {}
    if not isinstance(walk, dict) or not walk.keys() >= FIELDS:
        raise WalkError(f"The server at {client.base_url} is not a MoMALisa server, or one of another version.", 3)
    return walk


def _save_extras(client: httpx.Client, walk: WalkJson, folder: Path) -> None:
    """Save the files that a walk has beside its frames. Raises WalkError."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise WalkError(f"Could not create {folder}: {error.strerror or error}.", 2) from error
    for extra in walk.get("extras", ()):
        if EXTRA_NAME.fullmatch(str(extra["name"])):
            save(client, extra["url"], folder / extra["name"])
