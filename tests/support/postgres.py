"""A real PostgreSQL for the tests: a new cluster in a temporary folder, on a free port, removed afterwards."""

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.store import schema
from momalisa_api.store.engine import open_engine
from momalisa_api.store.queue import migrate_queue
from tests.support.processes import SCRIPTS, free_port

USER = "momalisa"


class Postgres:
    """A server over one folder. It can stop and start again, at the same URL and with the same data."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "data"
        self._log = folder / "log"
        port = free_port()
        self.url = f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        self._options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("initdb", "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")

    def start(self) -> None:
        """Returns once it accepts connections."""
        self._run("pg_ctl", "-l", str(self._log), "-w", "-o", self._options, "start")

    def stop(self) -> None:
        """Stop as in a power failure: every connection breaks, and the next start recovers from the log."""
        self._run("pg_ctl", "-m", "immediate", "-w", "stop")

    def restart(self) -> None:
        """Stop as in a power failure, and start again."""
        self.stop()
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Suspend the server until the block ends: connections stay open, and no query is answered."""
        first = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        # The first one starts no others while it is suspended; those that it has may still end by themselves.
        first.suspend()
        others = first.children(recursive=True)
        try:
            for process in others:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            yield
        finally:
            for process in (first, *others):
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Make all writes to a table wait until the block ends."""
        with asyncio.Runner() as runner:
            connection = runner.run(asyncpg.connect(self.url))
            runner.run(connection.execute(f"BEGIN; LOCK TABLE {table} IN SHARE MODE"))
            try:
                yield
            finally:
                runner.run(connection.close())

    def terminate_sessions(self, ports: Iterable[int]) -> None:
        """End the sessions of clients by their ports. A waiting statement outlives the client that sent it."""
        self.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_port = ANY($1)", list(ports))

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query, over a new connection."""

        async def fetch() -> list[tuple[Any, ...]]:
            async with _connected(self.url) as connection:
                return [tuple(row) for row in await connection.fetch(query, *values)]

        return asyncio.run(fetch())

    @contextmanager
    def stopped_with_the_tests(self) -> Iterator[None]:
        """Stop the server, which is a daemon, when the block ends or when the tests are killed in it."""
        stop, options = self._command("pg_ctl", "-m", "immediate", "stop")
        # The end of this process, whatever its reason, closes the pipe.
        command = ["sh", "-c", 'read -r _; exec "$@" >/dev/null 2>&1', "sh", *stop]
        with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, **options):
            yield

    def _run(self, program: str, *arguments: str) -> None:
        command, options = self._command(program, *arguments)
        done = subprocess.run(command, capture_output=True, check=False, **options)
        assert done.returncode == 0, done.stderr.decode()

    def _command(self, program: str, *arguments: str) -> tuple[list[str], dict[str, Any]]:
        """A program of PostgreSQL with its arguments, and the options of subprocess.Popen that it needs."""
        found = shutil.which(program) or max(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), default=None)
        if found is None:
            raise FileNotFoundError(f"the tests need PostgreSQL's {program}: make system-packages installs it")
        owner = _owner()
        user, group = (owner.pw_uid, owner.pw_gid) if os.getuid() == 0 else (None, None)
        return [str(found), "-D", str(self._data), *arguments], {"cwd": "/", "user": user, "group": group}


def _owner() -> pwd.struct_passwd:
    """The account for PostgreSQL, which refuses to run as root, when root runs the tests."""
    users = {user.pw_name: user for user in pwd.getpwall()}
    return users.get("postgres") or users["nobody"]


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@contextmanager
def server() -> Iterator[Postgres]:
    """A running server. Raises FileNotFoundError if PostgreSQL is not installed."""
    with tempfile.TemporaryDirectory(prefix="momalisa-postgres-") as folder:
        if os.getuid() == 0:
            owner = _owner()
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        postgres = Postgres(Path(folder))
        postgres.start()
        with postgres.stopped_with_the_tests():
            yield postgres


@contextmanager
def cluster() -> Iterator[str]:
    """The URL of a running server. Raises FileNotFoundError if PostgreSQL is not installed."""
    with server() as postgres:
        yield postgres.url


@asynccontextmanager
async def clean_engine(url: str, **limits: Any) -> AsyncIterator[AsyncEngine]:
    """An engine of a database with the current schema, and no walks and jobs in it. limits: those of open_engine."""
    engine = open_engine(url, **limits)
    try:
        await schema.migrate(engine)
        await migrate_queue(engine)
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM walks"))
            if engine.dialect.name == "postgresql":
                await connection.execute(text("DELETE FROM pgqueuer"))
        yield engine
    finally:
        await engine.dispose()


async def new_database(url: str, name: str) -> str:
    """Create an empty database on the server of a URL. Returns its URL."""
    async with _connected(url) as connection:
        await connection.execute(f'CREATE DATABASE "{name}"')
    return f"{url.rpartition('/')[0]}/{name}"


def migrate(url: str) -> None:
    """Update the schema of the catalogue and of the queue, as an operator would."""
    environment = {**os.environ, "MOMALISA_DATABASE_URL": url}
    subprocess.run([str(SCRIPTS / "momalisa"), "migrate"], env=environment, check=True, capture_output=True)


@contextmanager
def migrated() -> Iterator[str]:
    """The URL of a running server with the current schema."""
    with cluster() as url:
        migrate(url)
        yield url
