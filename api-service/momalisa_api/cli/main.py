"""The command line: `momalisa COMMAND`.

Only the command that runs is imported: `momalisa walk` starts without the server and its libraries.
"""

import argparse
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from momalisa_api import __version__
from momalisa_api.cli import argument_types, uploads, walk_options
from momalisa_api.cli.errors import CommandError, printable
from momalisa_api.cli.kind_commands import add_kind_commands
from momalisa_api.cli.server_arguments import (
    EPILOG,
    add_server_arguments,
    file_to_save,
    made,
    request_and_print,
    server_of,
)

MAX_REPLICAS = 100
# As in walks/spec, which is slow to import.
SPACING_CHOICES = ("even", "uniform", "ease")
EFFORT_CHOICES = ("fast", "balanced", "best")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    _print_any_text()
    code: int | str | None
    try:
        try:
            code = _run(arguments)
        except SystemExit as end:
            code = end.code
        if sys.stdout:
            sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except CommandError as error:
        print(f"momalisa: {printable(str(error))}", file=sys.stderr)
        code = error.exit_code
    except BrokenPipeError:
        _discard_output()
        code = 0
    except OSError as error:
        # A full disk, a missing permission: what to do is up to the user.
        place = f": {error.filename}" if error.filename else ""
        print(f"momalisa: {error.strerror or error}{place}", file=sys.stderr)
        _discard_output()
        code = 1
    sys.exit(code)


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    # SIGTERM and a closed terminal end a command as Ctrl-C does: requests are withdrawn, child processes are stopped.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    code: int = options.run(options)
    return code


def _discard_output() -> None:
    """Python writes what is left at exit, and would print a traceback if that fails."""
    if sys.stdout:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_any_text() -> None:
    """Prompts may hold characters that the terminal's encoding lacks: these are printed as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="momalisa", description="Walks in the latent space of a diffusion model, and through pictures and clips."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the API server; configured by MOMALISA_ environment variables")
    serve.add_argument(
        "--role", choices=["all", "web", "worker"], help="what this process does (default: MOMALISA_ROLE, or all)"
    )
    serve.set_defaults(run=_serve)
    migrate = commands.add_parser("migrate", help="update the database schema of the catalogue and the queue")
    migrate.set_defaults(run=_migrate)
    up = commands.add_parser("up", help="run replicas and the API server on this machine until Ctrl-C")
    up.add_argument(
        "--replicas",
        type=argument_types.number_between(1, MAX_REPLICAS),
        metavar="N",
        help="number of replicas (default: one for each GPU; without a GPU, 2)",
    )
    up.add_argument(
        "--first-port",
        type=argument_types.number_between(1, argument_types.MAX_PORT),
        metavar="PORT",
        help="port of the first replica, the others use the ports after it (default: free ports)",
    )
    up.set_defaults(run=_up)
    keys = commands.add_parser("keys", help="add and remove API keys")
    keys.add_argument("action", choices=["add", "remove"])
    keys.add_argument("name", type=argument_types.text, help="name of the key's owner")
    keys.set_defaults(run=_keys)
    sign_out_all = commands.add_parser("sign-out-all", help="end the sessions of all signed-in visitors")
    sign_out_all.set_defaults(run=_sign_out_all)
    models = commands.add_parser("models", help="list the models, choose the default, retire a model")
    actions = models.add_subparsers(required=True, metavar="ACTION", dest="action")
    actions.add_parser("list", help="print the registered models, the default first")
    default = actions.add_parser("default", help="make a model the default of requests that name none")
    retire = actions.add_parser("retire", help="have no new walks use a model; existing walks stay")
    retire.add_argument("--undo", action="store_true", help="let new walks use the model again")
    for action in (default, retire):
        action.add_argument("name", type=argument_types.text, help="the model's name")
    models.set_defaults(run=_models)
    hide = commands.add_parser("hide", help="remove a walk from the public gallery; its URL still works")
    hide.add_argument("walk", type=argument_types.text, help="the walk's id")
    hide.set_defaults(run=_hide)
    purge = commands.add_parser("purge", help="permanently delete a walk with its films and frames")
    purge.add_argument("walk", type=argument_types.text, help="the walk's id")
    purge.set_defaults(run=_purge)
    walk = commands.add_parser(
        "walk",
        help="request a walk from a server and save it",
        epilog=EPILOG,
    )
    _add_walk_arguments(walk)
    add_server_arguments(walk, "walk.gif")
    walk.set_defaults(run=_walk)
    add_kind_commands(commands)
    replay = commands.add_parser(
        "replay", help="make the walk of a film again, from what the film carries", epilog=EPILOG
    )
    replay.add_argument("film", type=Path, metavar="FILE", help="a GIF, an MP4 or a poster that MoMALisa made")
    replay.add_argument("--show", action="store_true", help="print the walk as JSON, and request nothing")
    add_server_arguments(replay, "replay.gif")
    replay.set_defaults(run=_replay)
    return parser


def _add_walk_arguments(walk: argparse.ArgumentParser) -> None:
    walk.add_argument(
        "stops",
        type=uploads.stop_argument,
        nargs="+",
        metavar="STOP",
        help="two or more prompts or pictures, in the order of the walk; a picture is FILE.jpg, "
        "FILE.jpg@X,Y,WIDTH,HEIGHT for a part of it, or FILE.jpg=PROMPT",
    )
    walk.add_argument("--model", type=argument_types.text, help="name of the model (default: the server's default)")
    walk.add_argument(
        "--frames",
        type=argument_types.whole_number,
        default=25,
        help="number of frames, first and last included (default: 25)",
    )
    walk.add_argument(
        "--seed",
        type=argument_types.seed,
        default=argument_types.AUTO_SEED,
        help="seed of the noise that every frame starts from (default: auto, the smoothest of several)",
    )
    walk.add_argument(
        "--strength",
        type=argument_types.number,
        help="how far the walk leaves its pictures between two stops, 0.1 to 1 (default: 0.8)",
    )
    walk.add_argument(
        "--spacing", choices=SPACING_CHOICES, help="how frames are spaced between two stops (default: even)"
    )
    walk.add_argument(
        "--effort",
        choices=EFFORT_CHOICES,
        help="how much is rendered to make even spacing more even (default: the server's)",
    )
    walk.add_argument(
        "--steps", type=argument_types.whole_number, help="denoising steps per frame (default: the model's)"
    )
    walk.add_argument(
        "--guidance-scale",
        type=argument_types.number,
        help="how closely frames follow their prompts (default: the model's)",
    )
    walk.add_argument(
        "--negative-prompt", type=argument_types.text, help="what frames should not show (default: the model's)"
    )
    walk.add_argument("--width", type=argument_types.whole_number, help="width in pixels (default: the model's)")
    walk.add_argument("--height", type=argument_types.whole_number, help="height in pixels (default: the model's)")
    walk.add_argument(
        "--scheduler", type=argument_types.text, help="one of the schedulers in the model card (default: the model's)"
    )
    walk.add_argument(
        "--private", action="store_true", help="let nobody read the walk without a link, which is printed at the end"
    )
    walk.add_argument(
        "--frame-ms",
        type=argument_types.whole_number,
        default=80,
        help="duration of a frame in milliseconds (default: 80)",
    )


def _serve(options: argparse.Namespace) -> int:
    from momalisa_api.cli import admin

    return admin.run_server(options.role)


def _migrate(_: argparse.Namespace) -> int:
    from momalisa_api.cli import admin

    return admin.migrate_database()


def _keys(options: argparse.Namespace) -> int:
    from momalisa_api.cli import admin

    return admin.change_keys(options.action, options.name)


def _sign_out_all(_: argparse.Namespace) -> int:
    from momalisa_api.cli import admin

    return admin.sign_out_all()


def _models(options: argparse.Namespace) -> int:
    from momalisa_api.cli import models

    match options.action:
        case "list":
            return models.print_models()
        case "default":
            return models.choose_default(options.name)
        case _:
            return models.retire_model(options.name, undo=options.undo)


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
    request = {name: value for name in walk_options.OF_COMMAND if (value := getattr(options, name)) is not None}
    if options.private:
        request["listed"] = False
    return made(options, request)


def _replay(options: argparse.Namespace) -> int:
    from momalisa_api.cli import client, replay

    spec = replay.spec_of(options.film)
    if options.show:
        print(json.dumps(spec, indent=2))
        return 0
    out, request = file_to_save(options), replay.request_of(spec)
    with server_of(options) as url:
        client.check_model(url, spec["model"], spec["revision"])
        replay.check_uploads(url, spec)
        return request_and_print(options, url, request, out)


if __name__ == "__main__":
    main()
