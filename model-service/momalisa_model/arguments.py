"""What `momalisa-model` runs: arguments and settings first, which takes no time, then torch and diffusers."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from momalisa_model import __version__
from momalisa_model.problems import Problem
from momalisa_model.settings import Settings

# As a shell reports a process that Ctrl-C has ended.
INTERRUPTED = 130


def run_command(arguments: list[str] | None = None) -> None:
    """The command `momalisa-model [serve | card | tune | fetch]`.

    Exits with status 1 and a message if a setting or the model is wrong.
    """
    parser = _parser()
    # Options may stand before the names of recipes, too.
    chosen = parser.parse_intermixed_args(arguments)
    if chosen.command != "fetch" and (chosen.recipes or chosen.update or chosen.verify):
        parser.error("RECIPE, --update and --verify are for fetch; other commands take MOMALISA_RECIPES")
    try:
        settings = Settings()
        _run(chosen, settings)
    except ValidationError as error:
        sys.exit(f"momalisa-model: {' '.join(map(_setting_in_words, error.errors()))}")
    except OSError as error:
        sys.exit(f"momalisa-model: {error}")
    except Problem as problem:
        cause = f"\n{problem.__cause__}" if problem.__cause__ else ""
        sys.exit(f"momalisa-model: {problem}{cause}")


def _run(chosen: argparse.Namespace, settings: Settings) -> None:
    try:
        with _ending_at_ctrl_c():
            from momalisa_model.app import print_card, serve
            from momalisa_model.fetch import fetch_recipes
            from momalisa_model.logs import configure_logs
            from momalisa_model.tune import tune
    except (ImportError, OSError, ValueError) as error:
        # HF_HUB_DOWNLOAD_TIMEOUT=soon, for example.
        sys.exit(f"momalisa-model: its libraries cannot be loaded: {error}. Check the variables HF_… and TORCH_….")
    configure_logs(settings.log_format)
    if chosen.command == "tune":
        tune(settings, chosen.memory)
    elif chosen.command == "fetch":
        fetch_recipes(settings, chosen.recipes, chosen.update, chosen.verify)
    else:
        (print_card if chosen.command == "card" else serve)(settings)


@contextmanager
def _ending_at_ctrl_c() -> Iterator[None]:
    """While libraries are imported: they would turn a KeyboardInterrupt into errors of their own."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: object) -> None:
    print("momalisa-model: stopped", file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="momalisa-model",
        description="Render frames of a walk with diffusion models on one device.",
        epilog="All settings are environment variables; docs/configuration.md lists them.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument(
        "command",
        nargs="?",
        choices=["serve", "card", "tune", "fetch"],
        default="serve",
        help="serve: run a replica (default). card: print a model card for the model in MODEL_ID. tune: print its card "
        "with the micro-batch that is best on this device. fetch: download models into MOMALISA_WEIGHTS, verify them, "
        "and end.",
    )
    parser.add_argument(
        "recipes",
        nargs="*",
        metavar="RECIPE",
        help="fetch: names or files of model recipes (default: MOMALISA_RECIPES)",
    )
    parser.add_argument("--update", action="store_true", help="fetch: take the newest commit of each branch")
    parser.add_argument("--verify", action="store_true", help="fetch: hash what was fetched before, and replace damage")
    parser.add_argument(
        "--memory",
        type=share,
        default=0.9,
        metavar="SHARE",
        help="tune: the largest share of the device's memory to use (default: 0.9)",
    )
    return parser


def share(text: str) -> float:
    """A number above 0 and at most 1. Raises ValueError or ArgumentTypeError, as argparse wants it."""
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError("must be above 0 and at most 1")
    return number


def _setting_in_words(error: ErrorDetails) -> str:
    # pydantic names a field by its first alias, which has the prefix already.
    name = str(error["loc"][0]).upper().removeprefix("MOMALISA_")
    message = error["msg"].replace("Input should", "must").removeprefix("Value error, ")
    return f"MOMALISA_{name}: {message}."
