"""The command line: `momalisa COMMAND`.

Only the command that runs is imported: `momalisa walk` starts without the server and its libraries.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from momalisa_api.films.kinds import FilmName

DEFAULT_URL = "http://127.0.0.1:8000"
# As in walks/spec, which is slow to import.
AUTO_SEED = "auto"
SPACING_CHOICES = ("even", "uniform", "ease")
FILM_OF_SUFFIX = {Path(name).suffix: str(name) for name in FilmName if name is not FilmName.PREVIEW}
FILM_OF_SUFFIX[".zip"] = "frames.zip"
REQUEST_FIELDS = (
    "stops",
    "frames",
    "seed",
    "spacing",
    "steps",
    "guidance_scale",
    "negative_prompt",
    "width",
    "height",
    "scheduler",
    "frame_ms",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    options = _parser().parse_args(arguments)
    # SIGTERM and a closed terminal end a command as Ctrl-C does: requests are withdrawn, child processes are stopped.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        sys.exit(options.run(options))
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="momalisa", description="Walks in the latent space of a diffusion model.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the API server; configured by MOMALISA_ environment variables")
    serve.add_argument(
        "--role", choices=["all", "web", "worker"], help="what this process does (default: MOMALISA_ROLE, or all)"
    )
    serve.set_defaults(run=_serve)
    migrate = commands.add_parser("migrate", help="update the database schema of the catalogue and the queue")
    migrate.set_defaults(run=_migrate)
    up = commands.add_parser("up", help="run replicas and the API server on this machine until Ctrl-C")
    up.add_argument("--replicas", type=_count, default=2, metavar="N", help="number of replicas (default: 2)")
    up.add_argument("--first-port", type=int, metavar="PORT", help="port of the first replica (default: a free port)")
    up.set_defaults(run=_up)
    keys = commands.add_parser("keys", help="add and remove API keys")
    keys.add_argument("action", choices=["add", "remove"])
    keys.add_argument("name", help="name of the key's owner")
    keys.set_defaults(run=_keys)
    hide = commands.add_parser("hide", help="remove a walk from the public gallery; its URL still works")
    hide.add_argument("walk", help="the walk's id")
    hide.set_defaults(run=_hide)
    purge = commands.add_parser("purge", help="permanently delete a walk with its films and frames")
    purge.add_argument("walk", help="the walk's id")
    purge.set_defaults(run=_purge)
    walk = commands.add_parser(
        "walk",
        help="request a walk from a server and save it",
        epilog="Exit codes: 0 done, 1 the walk failed, 2 invalid input, 3 no server, 130 stopped by Ctrl-C.",
    )
    _add_walk_arguments(walk)
    walk.set_defaults(run=_walk)
    return parser


def _add_walk_arguments(walk: argparse.ArgumentParser) -> None:
    walk.add_argument("stops", nargs="+", metavar="PROMPT", help="two or more prompts, in the order of the walk")
    walk.add_argument("--frames", type=int, default=25, help="number of frames, first and last included (default: 25)")
    walk.add_argument(
        "--seed",
        type=_seed,
        default=AUTO_SEED,
        help="seed of the noise that every frame starts from (default: auto, the smoothest of several)",
    )
    walk.add_argument(
        "--spacing", choices=SPACING_CHOICES, help="how frames are spaced between two stops (default: even)"
    )
    walk.add_argument("--steps", type=int, help="denoising steps per frame (default: the model's)")
    walk.add_argument(
        "--guidance-scale", type=float, help="how closely frames follow their prompts (default: the model's)"
    )
    walk.add_argument("--negative-prompt", help="what frames should not show (default: the model's)")
    walk.add_argument("--width", type=int, help="width in pixels (default: the model's)")
    walk.add_argument("--height", type=int, help="height in pixels (default: the model's)")
    walk.add_argument("--scheduler", help="one of the schedulers in the model card (default: the model's)")
    walk.add_argument("--frame-ms", type=int, default=80, help="duration of a frame in milliseconds (default: 80)")
    walk.add_argument(
        "--out",
        type=_film_path,
        default=Path("walk.gif"),
        metavar="FILE",
        help=f"file to save; its suffix selects the format: {', '.join(FILM_OF_SUFFIX)} (default: walk.gif)",
    )
    walk.add_argument(
        "--url",
        default=os.environ.get("MOMALISA_URL"),
        help=f"address of the server (default: MOMALISA_URL, or {DEFAULT_URL})",
    )
    walk.add_argument("--local", action="store_true", help="start a deployment on this machine if no server is running")
    walk.add_argument("--json", action="store_true", help="print the finished walk as JSON")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


def _seed(text: str) -> int | str:
    return text if text == AUTO_SEED else int(text)


def _film_path(text: str) -> Path:
    path = Path(text)
    if path.suffix not in FILM_OF_SUFFIX:
        raise argparse.ArgumentTypeError(f"the file name must end in {', '.join(FILM_OF_SUFFIX)}")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder")
    if not path.resolve().parent.is_dir():
        raise argparse.ArgumentTypeError(f"folder not found: {path.resolve().parent}")
    return path


def _serve(options: argparse.Namespace) -> int:
    from momalisa_api.cli import admin

    return admin.run_server(options.role)


def _migrate(_: argparse.Namespace) -> int:
    from momalisa_api.cli import admin

    return admin.migrate_database()


def _keys(options: argparse.Namespace) -> int:
    from momalisa_api.cli import admin

    return admin.change_keys(options.action, options.name)


def _hide(options: argparse.Namespace) -> int:
    from momalisa_api.cli import admin

    return admin.hide_walk(options.walk)


def _purge(options: argparse.Namespace) -> int:
    from momalisa_api.cli import admin

    return admin.delete_walk(options.walk)


def _up(options: argparse.Namespace) -> int:
    from momalisa_api.cli.up import run_deployment

    return run_deployment(options.replicas, options.first_port)


def _walk(options: argparse.Namespace) -> int:
    from momalisa_api.cli import client

    request = {name: value for name in REQUEST_FIELDS if (value := getattr(options, name)) is not None}
    film = FILM_OF_SUFFIX[options.out.suffix]
    try:
        with _server(options.url, local=options.local) as url:
            walk = client.request_and_save(url, request, film, options.out)
    except client.WalkError as error:
        print(f"momalisa: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(walk) if options.json else client.summary(walk, options.out))
    return 0


def _server(url: str | None, *, local: bool) -> AbstractContextManager[str]:
    if url or not local:
        return nullcontext(url or DEFAULT_URL)
    from momalisa_api.cli.up import deployment

    return deployment(DEFAULT_URL, start=True)


if __name__ == "__main__":
    main()
