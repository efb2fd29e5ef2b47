"""A real PostgreSQL for the tests: a cluster of its own in a temporary folder, on a free port, gone afterwards."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.journey.deployment import SCRIPTS, free_port

USER = "momalisa"


@contextmanager
def cluster() -> Iterator[str]:
    """The url of a server that lives as long as the block. Raises FileNotFoundError where none is installed."""
    with tempfile.TemporaryDirectory(prefix="momalisa-postgres-") as folder:
        data, port = Path(folder) / "data", free_port()
        if os.getuid() == 0:
            # PostgreSQL refuses to run as root; Debian's package brings a user for it.
            shutil.chown(folder, "postgres")
        _run("initdb", "-D", str(data), "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        _run("pg_ctl", "-D", str(data), "-l", f"{folder}/log", "-w", "-o", options, "start")
        try:
            yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        finally:
            _run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")


@contextmanager
def migrated() -> Iterator[str]:
    """The url of such a server whose schema is up to date, the catalogue's and the queue's."""
    with cluster() as url:
        environment = {**os.environ, "MOMALISA_DATABASE_URL": url}
        subprocess.run([str(SCRIPTS / "momalisa"), "migrate"], env=environment, check=True, capture_output=True)
        yield url


def _run(program: str, *arguments: str) -> None:
    found = shutil.which(program) or max(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), default=None)
    if found is None:
        raise FileNotFoundError(f"the tests need PostgreSQL's {program}: apt-get install postgresql")
    as_postgres = {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid} if os.getuid() == 0 else {}
    done = subprocess.run([str(found), *arguments], capture_output=True, cwd="/", check=False, **as_postgres)
    assert done.returncode == 0, done.stderr.decode()
