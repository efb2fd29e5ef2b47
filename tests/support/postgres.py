"""A real PostgreSQL for the tests: a cluster of its own in a temporary folder, on a free port, gone afterwards."""

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from tests.support.processes import SCRIPTS, free_port

USER = "momalisa"


class Postgres:
    """A server over one folder. It can go away and come back, at the same url and with what it held."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "data"
        self._log = folder / "log"
        port = free_port()
        self.url = f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        self._options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("initdb", "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")

    def start(self) -> None:
        """Returns once it takes connections."""
        self._run("pg_ctl", "-l", str(self._log), "-w", "-o", self._options, "start")

    def stop(self) -> None:
        """At once, as if the power had gone: every connection breaks, and the next start recovers from the log."""
        self._run("pg_ctl", "-m", "immediate", "-w", "stop")

    def restart(self) -> None:
        """Away at once, and back as soon as it has recovered."""
        self.stop()
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Silent for as long as the block lasts: connections stand, also new ones, and nothing is answered."""
        first = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        processes = [first, *first.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    @contextmanager
    def held(self, table: str) -> Iterator[None]:
        """Nobody else can write to a table as long as the block lasts: who tries to waits."""
        with asyncio.Runner() as runner:
            connection = runner.run(asyncpg.connect(self.url))
            runner.run(connection.execute(f"BEGIN; LOCK TABLE {table} IN SHARE MODE"))
            try:
                yield
            finally:
                runner.run(connection.close())

    def hang_up_on(self, ports: Iterable[int]) -> None:
        """End the sessions of clients by their ports: a statement that waits outlives the client that sent it."""
        self.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_port = ANY($1)", list(ports))

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query finds, over a connection of its own."""

        async def fetch() -> list[tuple[Any, ...]]:
            async with _connected(self.url) as connection:
                return [tuple(row) for row in await connection.fetch(query, *values)]

        return asyncio.run(fetch())

    def _run(self, program: str, *arguments: str) -> None:
        found = shutil.which(program) or max(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), default=None)
        if found is None:
            raise FileNotFoundError(f"the tests need PostgreSQL's {program}: make system-packages installs it")
        owner = _owner()
        user, group = (owner.pw_uid, owner.pw_gid) if os.getuid() == 0 else (None, None)
        command = [str(found), "-D", str(self._data), *arguments]
        done = subprocess.run(command, capture_output=True, cwd="/", check=False, user=user, group=group)
        assert done.returncode == 0, done.stderr.decode()


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
    """A server that runs when the block begins. Raises FileNotFoundError where none is installed."""
    with tempfile.TemporaryDirectory(prefix="momalisa-postgres-") as folder:
        if os.getuid() == 0:
            owner = _owner()
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        postgres = Postgres(Path(folder))
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()


@contextmanager
def cluster() -> Iterator[str]:
    """The url of a server that lives as long as the block. Raises FileNotFoundError where none is installed."""
    with server() as postgres:
        yield postgres.url


def migrate(url: str) -> None:
    """Bring a server's schema up to date, the catalogue's and the queue's, as an operator does."""
    environment = {**os.environ, "MOMALISA_DATABASE_URL": url}
    subprocess.run([str(SCRIPTS / "momalisa"), "migrate"], env=environment, check=True, capture_output=True)


@contextmanager
def migrated() -> Iterator[str]:
    """The url of such a server whose schema is up to date."""
    with cluster() as url:
        migrate(url)
        yield url
