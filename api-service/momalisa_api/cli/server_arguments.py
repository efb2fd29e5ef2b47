"""Arguments of all commands that have a server make a walk: where it is made, and where it is saved."""

import argparse
import json
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final, TypeVar

from momalisa_api.cli import argument_types
from momalisa_api.cli.errors import CommandError, printable
from momalisa_api.films.kinds import FilmName

DEFAULT_URL = "http://127.0.0.1:8000"
EPILOG = (
    "The variable MOMALISA_API_KEY can hold an API key or an ID token. "
    "Exit codes: 0 done, 1 the walk failed, 2 invalid input, 3 no server, 130 stopped by Ctrl-C."
)
FILM_OF_SUFFIX: Final = {
    **{Path(name).suffix: str(name) for name in FilmName if name is not FilmName.PREVIEW},
    ".zip": "frames.zip",
}
# For kinds whose last frame is a picture that people want on its own.
STILL_OF_SUFFIX: Final = {".png": "frames/{last}.png"}
T = TypeVar("T")


def add_server_arguments(command: argparse.ArgumentParser, out: str, films: Mapping[str, str] = FILM_OF_SUFFIX) -> None:
    """Add the arguments. out: the default file; films: what is saved, by suffix."""
    command.add_argument(
        "-o",
        "--out",
        type=argument_types.new_file(films),
        metavar="FILE",
        help=f"file to save; its suffix selects the format: {', '.join(films)} (default: {out})",
    )
    command.add_argument(
        "--url",
        type=argument_types.server_url,
        help=f"address of the server (default: MOMALISA_URL, or {DEFAULT_URL})",
    )
    command.add_argument(
        "--local", action="store_true", help="start a deployment on this machine if no server is running"
    )
    command.add_argument("--json", action="store_true", help="print the finished walk as JSON")
    command.set_defaults(default_out=out, films=films)


def made(options: argparse.Namespace, request: dict[str, object], extras: Path | None = None) -> int:
    """Have the server that the options name make a walk, save it, and print what it is. Returns an exit code."""
    out = file_to_save(options)
    with server_of(options) as url:
        return request_and_print(options, url, request, out, extras)


def request_and_print(
    options: argparse.Namespace, url: str, request: dict[str, object], out: Path, extras: Path | None = None
) -> int:
    """The same, with the server at a URL and a file."""
    from momalisa_api.cli import client, walk_summary

    walk = client.request_and_save(url, request, options.films[out.suffix], out, extras)
    print(json.dumps(walk) if options.json else printable(walk_summary.summary(walk, out)))
    return 0


def file_to_save(options: argparse.Namespace) -> Path:
    """The file that the options name, or the default. Raises CommandError if it cannot be written."""
    found: Path | None = options.out
    return found or _checked(argument_types.new_file(options.films), options.default_out, "--out")


def server_of(options: argparse.Namespace) -> AbstractContextManager[str]:
    """The URL of the server that the options or MOMALISA_URL name. With --local, it runs as long as the block."""
    url = options.url
    if not url and (named := os.environ.get("MOMALISA_URL")):
        url = _checked(argument_types.server_url, named, "MOMALISA_URL")
    if url or not options.local:
        return nullcontext(url or DEFAULT_URL)
    from momalisa_api.cli.up import deployment

    return deployment(DEFAULT_URL, start=True)


def _checked(kind: Callable[[str], T], value: str, setting: str) -> T:
    """A value that is no argument, with the check of an argument. Raises CommandError."""
    try:
        return kind(value)
    except argparse.ArgumentTypeError as error:
        raise CommandError(f"{setting}: {error}", 2) from error
