"""A visitor in a terminal: asks a server for a walk, watches it, brings the film home."""

import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import stamina
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from momalisa_api.films.kinds import FilmName

# What can be saved, by the ending of the file.
FILMS = {Path(name).suffix: str(name) for name in FilmName if name is not FilmName.PREVIEW} | {".zip": "frames.zip"}
LOOK_EVERY_S = 0.25
WITHDRAW_S = 10.0
Walk = dict[str, Any]


class Unhappy(Exception):
    """The visitor goes home without a film. str(error) says why; `exit_code` says so to a script."""

    def __init__(self, why: str, exit_code: int) -> None:
        super().__init__(why)
        self.exit_code = exit_code


def ask_and_save(url: str, wish: dict[str, Any], out: Path) -> Walk:
    """Ask for a walk, show its progress, save the film that `out` is named for. Returns the finished walk.

    Ctrl-C withdraws the ask. Raises Unhappy.
    """
    stamina.instrumentation.set_on_retry_hooks([])  # its log would stand among what a script reads
    with httpx.Client(base_url=url, timeout=30, follow_redirects=True) as client:
        walk = _read(client, "POST", "/api/v1/walks", json=wish)
        try:
            walk = _watch(client, walk)
        except KeyboardInterrupt:
            # Who is leaving does not wait for long; a walk that nobody fetches does no harm.
            with suppress(httpx.HTTPError):
                client.delete(walk["url"], timeout=WITHDRAW_S)
            raise
        _save(client, f"{walk['url']}/{FILMS[out.suffix]}", out)
    return walk


def last_line(walk: Walk, out: Path) -> str:
    """What a person wants to know at the end."""
    spec = walk["spec"]
    said = f"{out}: {spec['frames']} frames, {' -> '.join(spec['stops'])}, seed {walk['seed']}"
    return f"{said}{_how_it_moves(walk['smoothness'])}"


def _how_it_moves(smoothness: dict[str, Any] | None) -> str:
    if not smoothness or smoothness["evenness"] is None:
        return ""
    return f", evenness {smoothness['evenness']:.2f}, sharpness {smoothness['sharpness'] or 0:.2f}"


def _watch(client: httpx.Client, walk: Walk) -> Walk:
    """Show frames landing until the walk is done. Raises Unhappy where it ends otherwise."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=walk["spec"]["frames"], left="")
        while True:
            bar.update(task, completed=_seen(walk), description=_state(walk), left=_left(walk))
            if walk["state"] in ("done", "failed", "cancelled"):
                break
            time.sleep(LOOK_EVERY_S)
            walk = _read(client, "GET", walk["url"])
    for warning in walk["warnings"]:
        bar.console.print(f"note: {warning}", markup=False)
    if walk["state"] != "done":
        raise Unhappy(walk["error"] or "the walk was cancelled", 1)
    return walk


def _state(walk: Walk) -> str:
    if walk["state"] in ("waiting", "rendering") and not walk["replicas_awake"]:
        return "waiting for a replica to wake"
    if walk["probes"]:
        return "finding even steps"
    if walk["state"] == "waiting":
        return "waiting" if walk["queue_position"] == 1 else f"waiting, number {walk['queue_position']} in line"
    return str(walk["state"])


def _seen(walk: Walk) -> int:
    return len(walk["frames_ready"]) or len(walk["probes"])


def _left(walk: Walk) -> str:
    return "" if walk["seconds_left"] is None else f"about {math.ceil(walk['seconds_left'])} s"


def _read(client: httpx.Client, method: str, url: str, **options: Any) -> Walk:
    """A call that answers with a walk; a server that is away for a moment is asked again. Raises Unhappy."""
    try:
        for attempt in stamina.retry_context(on=httpx.TransportError, attempts=4, wait_initial=0.2):
            with attempt:
                answer = client.request(method, url, **options)
    except httpx.TransportError as error:
        raise Unhappy(f"no server answers at {client.base_url}: {error}. Start one with `make up`.", 3) from error
    _raise_problem(answer)
    try:
        walk: Walk = answer.json()
        return {**walk, "url": walk["url"]}
    except (ValueError, KeyError, TypeError) as error:
        raise Unhappy(f"what answers at {client.base_url} is not MoMALisa", 3) from error


def _save(client: httpx.Client, url: str, out: Path) -> None:
    """Stream a film into a file, which appears whole or not at all."""
    aside = out.with_name(f".{out.name}.part")
    try:
        with client.stream("GET", url) as answer, aside.open("wb") as file:
            if answer.is_error:
                answer.read()
            _raise_problem(answer)
            for chunk in answer.iter_bytes():
                file.write(chunk)
        aside.replace(out)
    except httpx.TransportError as error:
        raise Unhappy(f"the film could not be fetched: {error}", 3) from error
    except OSError as error:
        raise Unhappy(f"{out} could not be written: {error}", 2) from error
    finally:
        aside.unlink(missing_ok=True)


def _raise_problem(answer: httpx.Response) -> None:
    """A problem document as a sentence."""
    if not answer.is_error:
        return
    try:
        said = answer.json()
        why = f"{said['title']}: {said['detail']}"
    except (ValueError, KeyError, TypeError):
        why = f"the server answered {answer.status_code}, and not in MoMALisa's words"
    raise Unhappy(why, 2 if answer.status_code < 500 else 1)
