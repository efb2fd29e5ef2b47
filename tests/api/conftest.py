"""Fixtures of the API's tests: a fake fleet, settings, and both databases."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.settings import Settings
from momalisa_api.store.schema import opened
from tests.support.factories import FakeFleet, write_card
from tests.support.oidc import Provider, oidc_provider
from tests.support.postgres import migrated


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def fleet() -> FakeFleet:
    return FakeFleet()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with migrated() as url:
        yield url


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    """An identity provider whose visitors come back to http://api or https://api."""
    with oidc_provider([f"{scheme}://api/api/v1/sign-in/callback" for scheme in ("http", "https")]) as found:
        yield found


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalogue.sqlite"
    found: str = request.getfixturevalue("postgres")
    return found


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine of either database, with the current schema and without the rows of other tests."""
    async with opened(url) as engine:
        await _empty(engine)
        yield engine


@pytest.fixture
async def emptied(postgres: str) -> str:
    """The shared PostgreSQL without the rows of other tests."""
    async with opened(postgres) as engine:
        await _empty(engine, "pgqueuer")
    return postgres


async def _empty(engine: AsyncEngine, *more: str) -> None:
    async with engine.begin() as connection:
        for table in ("claims", "workers", "asks", "landings", "walks", "models", *more):
            await connection.execute(text(f"DELETE FROM {table}"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    database = f"sqlite:///{tmp_path}/catalogue.sqlite"
    return Settings(
        model_card=write_card(tmp_path),
        bucket=str(tmp_path / "bucket"),
        database_url=database,
        refresh_s=0.05,
        live_poll_s=0.02,
    )
