"""Backups of a real PostgreSQL to a bucket and to a folder, and their restore."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.support.gcs import FakeGcs
from tests.support.postgres import Postgres, server

COMMAND = Path(__file__).parents[2] / "deployment/roles/backups/files/momalisa-backup"


@pytest.fixture(params=["bucket", "folder"])
def environment(request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres) -> Iterator[dict[str, str]]:
    """The command's environment, for each kind of destination."""
    common = {
        "PATH": os.environ["PATH"],
        "MOMALISA_BACKUP_DUMP": json.dumps([program("pg_dump"), "-Fc", postgres.url]),
        "MOMALISA_BACKUP_LOAD": json.dumps(
            [program("pg_restore"), "-d", postgres.url, "--clean", "--if-exists", "--single-transaction"]
        ),
    }
    if request.param == "folder":
        yield common | {"MOMALISA_BACKUP_DESTINATION": str(tmp_path / "dumps")}
        return
    with FakeGcs("dumps").running() as gcs:
        yield common | {"MOMALISA_BACKUP_DESTINATION": "gs://dumps/nightly", "STORAGE_EMULATOR_HOST": gcs.url}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with server() as postgres:
        yield postgres


def program(name: str) -> str:
    """The path of a program of the newest installed PostgreSQL."""
    found = max(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), default=None)
    return str(found or shutil.which(name))


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False
    )


async def execute(postgres: Postgres, statement: str) -> list[str]:
    """Run a statement. Returns the first column of its rows."""
    connection = await asyncpg.connect(postgres.url)
    try:
        return [row[0] for row in await connection.fetch(statement)]
    finally:
        await connection.close()


def test_a_restore_brings_back_the_backed_up_data(postgres: Postgres, environment: dict[str, str]) -> None:
    """A backup is worth nothing before a restore was tested."""
    asyncio.run(execute(postgres, "DROP TABLE IF EXISTS walks"))
    asyncio.run(execute(postgres, "CREATE TABLE walks AS SELECT 'a giraffe' AS stop"))
    first = run(environment, "dump")
    assert first.returncode == 0, first.stderr
    asyncio.run(execute(postgres, "UPDATE walks SET stop = 'a battleship'"))
    second = run(environment, "dump")
    assert run(environment, "list").stdout.split() == [first.stdout.strip(), second.stdout.strip()]

    asyncio.run(execute(postgres, "DROP TABLE walks"))
    assert run(environment, "restore", "latest").returncode == 0
    assert asyncio.run(execute(postgres, "SELECT stop FROM walks")) == ["a battleship"]
    assert run(environment, "restore", first.stdout.strip()).returncode == 0
    assert asyncio.run(execute(postgres, "SELECT stop FROM walks")) == ["a giraffe"]


def test_a_failed_backup_leaves_no_file(environment: dict[str, str]) -> None:
    """An incomplete dump under a valid name would be noticed only when it is needed."""
    broken = run(environment | {"MOMALISA_BACKUP_DUMP": json.dumps(["false"])}, "dump")
    assert broken.returncode == 1
    assert "momalisa-backup:" in broken.stderr
    assert run(environment, "list").stdout.split() == []
    assert run(environment, "restore", "latest").stderr == "momalisa-backup: there are no dumps to restore\n"
