"""What an operator runs: the server, the schema's migration, API keys, and what the public gallery shows."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any

from pydantic import ValidationError

from momalisa_api import server
from momalisa_api.app import open_bucket
from momalisa_api.cli.purge import purge_walk
from momalisa_api.problems import CatalogueUnavailable, Problem
from momalisa_api.settings import Settings, StoreSettings
from momalisa_api.store import queue, schema
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.engine import open_engine
from momalisa_api.store.gallery import Gallery
from momalisa_api.store.owners import add_key, remove_key


class KeyNameError(Exception):
    """A name for a new key that is taken, or a name that no key has."""


def run_server(role: str | None) -> int:
    """`momalisa serve`. Returns an exit code, as all functions here do."""

    def serve() -> None:
        given: dict[str, Any] = {"role": role} if role else {}
        settings = Settings(**given)
        # uvicorn raises the signal that stopped it again when it is done: a normal end.
        with suppress(KeyboardInterrupt):
            server.serve(settings)

    return _exit_code_of(serve)


def migrate_database() -> int:
    """`momalisa migrate`: updates the tables of the catalogue and of the queue."""

    async def migrate() -> None:
        engine = open_engine(StoreSettings().database_url)
        try:
            await schema.migrate(engine)
            await queue.migrate_queue(engine)
        finally:
            await engine.dispose()
        print("The database schema is up to date.")

    return _exit_code_of(lambda: asyncio.run(migrate()))


def change_keys(action: str, name: str) -> int:
    """`momalisa keys`: prints the new key, which cannot be shown again, or that a key was removed."""

    async def change() -> None:
        async with schema.opened(StoreSettings().database_url) as engine:
            if action == "add":
                try:
                    print(await add_key(engine, name))
                except ValueError as error:
                    raise KeyNameError(str(error)) from error
            elif await remove_key(engine, name):
                print(f"Key {name!r} removed.")
            else:
                raise KeyNameError(f"There is no key named {name!r}.")

    return _exit_code_of(lambda: asyncio.run(change()))


def hide_walk(walk_id: str) -> int:
    """`momalisa hide`: removes a walk from the public gallery only."""

    async def hide() -> None:
        async with schema.opened(StoreSettings().database_url) as engine:
            await Gallery(engine).hide(walk_id)
        print("The walk is no longer in the gallery. Its URL still works.")

    return _exit_code_of(lambda: asyncio.run(hide()))


def delete_walk(walk_id: str) -> int:
    """`momalisa purge`: deletes a walk and the files that only this walk uses."""

    async def delete() -> None:
        settings = StoreSettings()
        async with schema.opened(settings.database_url) as engine, aclosing(open_bucket(settings)) as bucket:
            count = await purge_walk(Catalogue(engine), bucket, walk_id)
        print(f"Walk deleted, with {count} files.")

    return _exit_code_of(lambda: asyncio.run(delete()))


def _exit_code_of(command: Callable[[], None]) -> int:
    """Expected errors become sentences on standard error: 1 where a retry may help, 2 for invalid input."""
    try:
        command()
    except ValidationError as error:
        for found in error.errors():
            message = "is required" if found["type"] == "missing" else found["msg"].removeprefix("Value error, ")
            print(f"MOMALISA_{'_'.join(map(str, found['loc'])).upper()}: {message}", file=sys.stderr)
        return 2
    except (schema.SchemaOld, CatalogueUnavailable) as error:
        print(f"momalisa: {error}", file=sys.stderr)
        return 1
    except (KeyNameError, Problem) as error:
        print(f"momalisa: {error}", file=sys.stderr)
        return 2
    return 0
