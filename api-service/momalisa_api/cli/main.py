"""`momalisa`: serve the api, ask any server for a walk, or run a whole deployment on this machine."""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from momalisa_api import app, server
from momalisa_api.cli import client
from momalisa_api.cli import up as local
from momalisa_api.cli.purge import purge_walk
from momalisa_api.problems import CatalogueUnavailable, Problem
from momalisa_api.settings import Settings, StoreSettings
from momalisa_api.store import queue, schema
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.engine import open_engine
from momalisa_api.store.gallery import Gallery
from momalisa_api.store.owners import add_key, remove_key
from momalisa_api.store.schema import SchemaOld, opened
from momalisa_api.walks.spec import AUTO, Spacing

DEFAULT_URL = "http://127.0.0.1:8000"
WISHES = (
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
    # A terminated command ends like an interrupted one: the ask is withdrawn, child processes are stopped.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        sys.exit(options.run(options))
    except KeyboardInterrupt:
        sys.exit(130)
    except (SchemaOld, CatalogueUnavailable) as trouble:
        sys.exit(f"momalisa: {trouble}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="momalisa", description="Walks in the latent space of a diffusion model.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the api; settings come from MOMALISA_ variables")
    serve.add_argument(
        "--role", choices=["all", "web", "worker"], help="what this process does (MOMALISA_ROLE, or all)"
    )
    serve.set_defaults(run=_serve)
    migrate = commands.add_parser(
        "migrate", help="bring the database's schema up to date, the catalogue's and the queue's"
    )
    migrate.set_defaults(run=_migrate)
    up = commands.add_parser("up", help="run replicas and the api on this machine until Ctrl-C")
    up.add_argument("--replicas", type=int, default=2, metavar="N", help="replicas to run (2)")
    up.add_argument("--first-port", type=int, metavar="PORT", help="port of the first replica (a free one)")
    up.set_defaults(run=lambda options: local.up(options.replicas, options.first_port))
    keys = commands.add_parser("keys", help="make and remove API keys")
    keys.add_argument("action", choices=["add", "remove"])
    keys.add_argument("name", help="whose key it is")
    keys.set_defaults(run=_keys)
    for name, what in (("hide", "take a walk off the wall"), ("purge", "remove a walk and its pictures for good")):
        act = commands.add_parser(name, help=what)
        act.add_argument("walk", help="the walk's id")
        act.set_defaults(run=_tend_wall, action=name)
    walk = commands.add_parser(
        "walk",
        help="ask for a walk and save it",
        epilog="Exit codes: 0 done, 1 the walk failed, 2 bad input, 3 no server, 130 stopped by Ctrl-C.",
    )
    _add_walk_arguments(walk)
    walk.set_defaults(run=_walk)
    return parser


def _add_walk_arguments(walk: argparse.ArgumentParser) -> None:
    walk.add_argument("stops", nargs="+", metavar="PROMPT", help="two or more prompts, in the walk's order")
    walk.add_argument("--frames", type=int, default=25, help="frames of the walk, both ends included (25)")
    walk.add_argument(
        "--seed", type=_seed, default=AUTO, help="the noise every frame starts from (auto: the best of some)"
    )
    walk.add_argument("--spacing", choices=get_args(Spacing), help="how frames lie between two stops (even)")
    walk.add_argument("--steps", type=int, help="denoising steps a frame (the model's)")
    walk.add_argument("--guidance-scale", type=float, help="how closely a frame follows its prompt (the model's)")
    walk.add_argument("--negative-prompt", help="what to keep away from (the model's)")
    walk.add_argument("--width", type=int, help="pixels (the model's)")
    walk.add_argument("--height", type=int, help="pixels (the model's)")
    walk.add_argument("--scheduler", help="one of the model card's schedulers (the model's)")
    walk.add_argument("--frame-ms", type=int, default=80, help="milliseconds a frame stands (80)")
    walk.add_argument(
        "--out",
        type=_film_path,
        default=Path("walk.gif"),
        metavar="FILE",
        help=f"{', '.join(client.FILMS)} (walk.gif)",
    )
    walk.add_argument("--url", default=os.environ.get("MOMALISA_URL"), help=f"the server (MOMALISA_URL, {DEFAULT_URL})")
    walk.add_argument("--local", action="store_true", help="start a deployment on this machine where none answers")
    walk.add_argument("--json", action="store_true", help="print the finished walk as JSON")


def _seed(text: str) -> int | str:
    return text if text == AUTO else int(text)


def _film_path(text: str) -> Path:
    path = Path(text)
    if path.suffix not in client.FILMS:
        raise argparse.ArgumentTypeError(f"ends in none of {', '.join(client.FILMS)}")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder")
    if not path.resolve().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.resolve().parent}")
    return path


def _keys(options: argparse.Namespace) -> int:
    try:
        said = asyncio.run(_change_keys(StoreSettings().database_url, options.action, options.name))
    except (ValueError, Problem) as error:
        print(f"momalisa: {error}", file=sys.stderr)
        return 2
    print(said)
    return 0


async def _change_keys(database_url: str, action: str, name: str) -> str:
    """What to print: the new key, which is told only here, or that one is gone. Raises ValueError."""
    async with opened(database_url) as engine:
        if action == "add":
            return await add_key(engine, name)
        if not await remove_key(engine, name):
            raise ValueError(f"there is no key named {name!r}")
    return f"the key {name!r} is gone"


def _tend_wall(options: argparse.Namespace) -> int:
    try:
        print(asyncio.run(_change_wall(options.action, options.walk)))
    except Problem as problem:
        print(f"momalisa: {problem}", file=sys.stderr)
        return 2
    return 0


async def _change_wall(action: str, walk_id: str) -> str:
    """What to print. Raises WalkNotFound, BucketUnavailable, CatalogueUnavailable."""
    settings = StoreSettings()
    async with opened(settings.database_url) as engine, aclosing(app.open_bucket(settings)) as bucket:
        if action == "hide":
            await Gallery(engine).hide(walk_id)
            return "off the wall; its url still works"
        return f"gone, with {await purge_walk(Catalogue(engine), bucket, walk_id)} objects"


def _migrate(_: argparse.Namespace) -> int:
    async def bring_up_to_date(url: str) -> None:
        engine = open_engine(url)
        try:
            await schema.migrate(engine)
            await queue.migrate_queue(engine)
        finally:
            await engine.dispose()

    asyncio.run(bring_up_to_date(StoreSettings().database_url))
    print("the schema is up to date")
    return 0


def _serve(options: argparse.Namespace) -> int:
    try:
        settings = Settings(**({"role": options.role} if options.role else {}))
    except ValidationError as error:
        for found in error.errors():
            said = "is needed" if found["type"] == "missing" else found["msg"].removeprefix("Value error, ")
            print(f"MOMALISA_{'_'.join(map(str, found['loc'])).upper()}: {said}", file=sys.stderr)
        return 2
    # Told to stop is how this ends well: uvicorn raises the signal once more when it is done.
    with suppress(KeyboardInterrupt):
        server.serve(settings)
    return 0


def _walk(options: argparse.Namespace) -> int:
    wish = {name: value for name in WISHES if (value := getattr(options, name)) is not None}
    try:
        with local.deployment(options.url or DEFAULT_URL, start=options.local and not options.url) as url:
            walk = client.ask_and_save(url, wish, options.out)
    except client.Unhappy as unhappy:
        print(f"momalisa: {unhappy}", file=sys.stderr)
        return unhappy.exit_code
    print(json.dumps(walk) if options.json else client.last_line(walk, options.out))
    return 0


if __name__ == "__main__":
    main()
