"""What an operator runs: the server, the schema's migration, API keys, and what the public gallery shows."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any

import asyncpg
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from momalisa_api import server
from momalisa_api.app import open_bucket
from momalisa_api.cli.errors import CommandError
from momalisa_api.problems import CatalogueUnavailable, Problem
from momalisa_api.settings import Settings, StoreSettings
from momalisa_api.store import queue, schema
from momalisa_api.store.engine import open_engine
from momalisa_api.store.erasures import Erasures
from momalisa_api.store.gallery import Gallery
from momalisa_api.store.owners import add_key, remove_key
from momalisa_api.store.session_secrets import end_sessions


def run_server(role: str | None) -> int:
    """`momalisa serve`. Returns an exit code, as all functions here do."""

    def serve() -> None:
        given: dict[str, Any] = {"role": role} if role else {}
        settings = Settings(**given)
        # uvicorn raises the signal that stopped it again when it is done: a normal end.
        with suppress(KeyboardInterrupt):
            server.serve(settings)

    return exit_code_of(serve)


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

    return exit_code_of(lambda: asyncio.run(migrate()))


def change_keys(action: str, name: str) -> int:
    """`momalisa keys`: prints the new key, which cannot be shown again, or that a key was removed."""

    async def change() -> None:
        async with schema.opened(StoreSettings().database_url) as engine:
            if action == "add":
                try:
                    print(await add_key(engine, name))
                except ValueError as error:
                    raise CommandError(str(error), 2) from error
            elif await remove_key(engine, name):
                print(f"Key {name!r} removed.")
            else:
                raise CommandError(f"There is no key named {name!r}.", 2)

    return exit_code_of(lambda: asyncio.run(change()))


def sign_out_all() -> int:
    """`momalisa sign-out-all`: has everybody sign in again."""

    async def end() -> None:
        async with schema.opened(StoreSettings().database_url) as engine:
            await end_sessions(engine)
        print("All sessions end within a minute.")

    return exit_code_of(lambda: asyncio.run(end()))


def hide_walk(walk_id: str) -> int:
    """`momalisa hide`: removes a walk from the public gallery only."""

    async def hide() -> None:
        async with schema.opened(StoreSettings().database_url) as engine:
            await Gallery(engine).hide(walk_id)
        print("The walk is no longer in the gallery. Its URL still works.")

    return exit_code_of(lambda: asyncio.run(hide()))


def delete_walk(walk_id: str) -> int:
    """`momalisa purge`: deletes a walk and the files that only this walk uses."""

    async def delete() -> None:
        settings = StoreSettings()
        async with schema.opened(settings.database_url) as engine, aclosing(open_bucket(settings)) as bucket:
            count = await Erasures(engine, bucket).purge(walk_id)
        print(f"Walk deleted, with {count} files.")

    return exit_code_of(lambda: asyncio.run(delete()))


def exit_code_of(command: Callable[[], None]) -> int:
    """Run a command. Expected errors are printed as sentences: 1 where a retry may help, 2 for invalid input."""
    try:
        command()
    except ValidationError as error:
        for found in error.errors():
            message = "is required" if found["type"] == "missing" else found["msg"].removeprefix("Value error, ")
            setting = f"MOMALISA_{'_'.join(map(str, found['loc'])).upper()}: " if found["loc"] else "momalisa: "
            print(f"{setting}{message}", file=sys.stderr)
        return 2
    except CatalogueUnavailable as error:
        raise CommandError(f"{error} ({_reason(error)})", 1) from error
    except schema.SchemaOld as error:
        raise CommandError(str(error), 1) from error
    except Problem as error:
        raise CommandError(str(error), 2) from error
    except (DBAPIError, asyncpg.PostgresError, asyncpg.ClientConfigurationError) as error:
        raise CommandError(f"The database refused this: {_first_line(error)}", 1) from error
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        sentence = f"{error.strerror or error}{place}. Check MOMALISA_DATABASE_URL and MOMALISA_BUCKET."
        raise CommandError(sentence, 1) from error
    return 0


def _reason(error: Exception) -> str:
    """Why the database does not respond: an operator needs more than a visitor."""
    return _first_line(error.__cause__ or error)


def _first_line(error: BaseException) -> str:
    """What the database said, without the statement that SQLAlchemy adds."""
    said = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return (str(said) or type(said).__name__).splitlines()[0]
