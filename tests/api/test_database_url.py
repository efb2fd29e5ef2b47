"""The URL of a PostgreSQL database: what managed databases print in it is taken, or refused in one sentence."""

import ssl
from pathlib import Path

import anyio
import pytest
from pydantic import ValidationError
from sqlalchemy import text

from momalisa_api.database_url import connect_arguments
from momalisa_api.problems import CatalogueUnavailable
from momalisa_api.settings import StoreSettings
from momalisa_api.store.engine import open_engine, transaction
from momalisa_api.store.notifications import Listener
from momalisa_api.store.queue_driver import open_pool

TAKEN = (
    "sslmode=prefer&channel_binding=prefer&connect_timeout=7&application_name=walks&target_session_attrs=read-write"
    "&options=-c%20statement_timeout%3D5000&gssencmode=disable&client_encoding=utf8"
)
SETTINGS = "SELECT current_setting('application_name'), current_setting('statement_timeout')"


@pytest.mark.anyio
async def test_the_parameters_of_a_url_reach_every_connection(postgres):
    """Those of the engine, of the queue's pool, and the one that listens."""
    engine = open_engine(f"{postgres}?{TAKEN}")
    async with transaction(engine) as connection:
        assert tuple((await connection.execute(text(SETTINGS))).one()) == ("walks", "5s")
        assert await connection.scalar(text("SHOW plan_cache_mode")) == "force_custom_plan"
    async with open_pool(engine) as pool:
        assert tuple(await pool.fetchrow(SETTINGS)) == ("walks", "5s")
    listener = Listener(engine)
    listener.subscribe("some_channel", lambda _: None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.run)
        with anyio.fail_after(10):
            while not listener.listens_to("some_channel"):
                await anyio.sleep(0.01)
        async with transaction(engine) as connection:
            names = await connection.scalars(
                text("SELECT application_name FROM pg_stat_activity WHERE query ~ 'LISTEN'")
            )
            assert "walks" in list(names)
        tasks.cancel_scope.cancel()
    await engine.dispose()


@pytest.mark.anyio
async def test_a_server_without_tls_is_refused_where_tls_is_required(postgres):
    """A password must not go over the network in the clear because a parameter was dropped."""
    engine = open_engine(f"{postgres}?sslmode=require")
    with pytest.raises(CatalogueUnavailable) as caught:
        async with transaction(engine):
            pass
    assert "SSL" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ("channel_binding=require", "channel_binding=require is not supported; use disable or prefer"),
        ("sslmode=on", "sslmode=on is not supported"),
        ("sslrootcert=/nowhere/ca.pem", "sslrootcert: there is no file /nowhere/ca.pem"),
        ("sslrootcert=system&sslmode=require", "sslrootcert=system requires sslmode=verify-full"),
        ("connect_timeout=soon", "connect_timeout must be a whole number of seconds"),
        ("connect_timeout=0", "connect_timeout must be a whole number of seconds"),
        ("target_session_attrs=leader", "target_session_attrs=leader is not supported"),
        ("pgbouncer=true", "the parameter pgbouncer is not supported; remove it"),
        ("keepalives=1", "the parameter keepalives is not supported; remove it"),
        ("gssencmode=require", "gssencmode=require is not supported"),
        ("application_name=%00", "application_name contains the character NUL"),
    ],
)
def test_what_cannot_be_fulfilled_is_refused_in_a_sentence(monkeypatch, parameters, sentence):
    """By the settings, so by every command, and without the password."""
    monkeypatch.setenv("MOMALISA_DATABASE_URL", f"postgresql://u:secret@h/n?{parameters}")
    with pytest.raises(ValidationError) as caught:
        StoreSettings()
    [error] = caught.value.errors()
    assert sentence in error["msg"]
    assert "secret" not in error["msg"]


@pytest.mark.parametrize("place", ["h:0", "h:99999", "h:x", "[::1", "a:1,b:x"])
def test_a_place_that_is_none_is_refused(place):
    """asyncpg would find out at the first connection, with a traceback."""
    with pytest.raises(ValueError, match="no valid host and port"):
        connect_arguments(f"postgresql://u@{place}/n")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u@h/n", {"dsn": "postgresql://h/n", "user": "u"}),
        ("postgres://u:p%40ss@h:6543/n", {"dsn": "postgresql://h:6543/n", "user": "u", "password": "p@ss"}),
        ("postgresql://u:a/b#c?d@h/n", {"dsn": "postgresql://h/n", "user": "u", "password": "a/b#c?d"}),
        ("postgresql:///n?host=/run/postgresql", {"dsn": "postgresql:///n?host=/run/postgresql"}),
        (
            "postgresql://u@a:1,b:2/n?target_session_attrs=primary",
            {"dsn": "postgresql://a:1,b:2/n?target_session_attrs=primary", "user": "u"},
        ),
        ("postgresql://u@h/n?ssl=true", {"dsn": "postgresql://h/n?sslmode=require", "user": "u"}),
        ("postgresql://u@h/n?sslmode=&sslrootcert=", {"dsn": "postgresql://h/n", "user": "u"}),
        ("postgresql://u@h/n?channel_binding=prefer", {"dsn": "postgresql://h/n", "user": "u"}),
        ("postgresql://u@h/n?connect_timeout=10", {"dsn": "postgresql://h/n", "user": "u", "timeout": 10}),
    ],
)
def test_a_url_becomes_the_arguments_of_asyncpg(url, expected):
    """Several hosts, sockets, and passwords with special characters included."""
    assert connect_arguments(url) == {"timeout": 5, **expected}


def test_the_certificates_of_this_machine_can_be_used():
    """Neon and others print sslrootcert=system: their certificates are of public authorities."""
    arguments = connect_arguments("postgresql://u@h/n?sslrootcert=system&sslmode=verify-full")
    assert isinstance(arguments["ssl"], ssl.SSLContext)
    assert arguments["ssl"].check_hostname
    assert "ssl" not in arguments["dsn"]


def test_a_file_of_certificates_is_passed_on(tmp_path: Path):
    """As AWS and Google offer for download."""
    authority = tmp_path / "ca.pem"
    authority.touch()
    arguments = connect_arguments(f"postgresql://u@h/n?sslmode=verify-ca&sslrootcert={authority}")
    assert arguments["dsn"] == f"postgresql://h/n?sslmode=verify-ca&sslrootcert={authority}"
