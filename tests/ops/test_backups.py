"""Dumps of a real PostgreSQL into a bucket and a folder, and back."""

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

from tests.gcs import FakeGcs
from tests.postgres import Postgres, server

COMMAND = Path(__file__).parents[2] / "deployment/roles/backups/files/momalisa-backup"


@pytest.fixture(params=["bucket", "folder"])
def environment(request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres) -> Iterator[dict[str, str]]:
    """What the command is told, of each place that dumps can go to."""
    told = {
        "PATH": os.environ["PATH"],
        "MOMALISA_BACKUP_DUMP": json.dumps([program("pg_dump"), "-Fc", postgres.url]),
        "MOMALISA_BACKUP_LOAD": json.dumps(
            [program("pg_restore"), "-d", postgres.url, "--clean", "--if-exists", "--single-transaction"]
        ),
    }
    if request.param == "folder":
        yield told | {"MOMALISA_BACKUP_PLACE": str(tmp_path / "dumps")}
        return
    with FakeGcs("dumps").running() as gcs:
        yield told | {"MOMALISA_BACKUP_PLACE": "gs://dumps/nightly", "STORAGE_EMULATOR_HOST": gcs.url}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with server() as postgres:
        yield postgres


def program(name: str) -> str:
    """A program of the newest PostgreSQL that is installed."""
    found = max(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), default=None)
    return str(found or shutil.which(name))


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False
    )


async def told(postgres: Postgres, statement: str) -> list[str]:
    connection = await asyncpg.connect(postgres.url)
    try:
        return [row[0] for row in await connection.fetch(statement)]
    finally:
        await connection.close()


def test_a_restore_brings_back_what_a_dump_had(postgres: Postgres, environment: dict[str, str]) -> None:
    """A backup that was never restored is a hope."""
    asyncio.run(told(postgres, "DROP TABLE IF EXISTS walks"))
    asyncio.run(told(postgres, "CREATE TABLE walks AS SELECT 'a giraffe' AS stop"))
    first = run(environment, "dump")
    assert first.returncode == 0, first.stderr
    asyncio.run(told(postgres, "UPDATE walks SET stop = 'a battleship'"))
    second = run(environment, "dump")
    assert run(environment, "list").stdout.split() == [first.stdout.strip(), second.stdout.strip()]

    asyncio.run(told(postgres, "DROP TABLE walks"))
    assert run(environment, "restore", "latest").returncode == 0
    assert asyncio.run(told(postgres, "SELECT stop FROM walks")) == ["a battleship"]
    assert run(environment, "restore", first.stdout.strip()).returncode == 0
    assert asyncio.run(told(postgres, "SELECT stop FROM walks")) == ["a giraffe"]


def test_a_dump_that_fails_leaves_none(environment: dict[str, str]) -> None:
    """Half a dump under a good name would be found on the day when it is needed."""
    broken = run(environment | {"MOMALISA_BACKUP_DUMP": json.dumps(["false"])}, "dump")
    assert broken.returncode == 1
    assert "momalisa-backup:" in broken.stderr
    assert run(environment, "list").stdout.split() == []
    assert run(environment, "restore", "latest").stderr == "momalisa-backup: there is no dump yet\n"
