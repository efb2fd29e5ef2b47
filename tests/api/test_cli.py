"""The command line: the imports of commands, and the constants that they repeat to avoid imports."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from momalisa_api.cli import argument_types, client, main, server_calls
from momalisa_api.store.owners import add_key
from momalisa_api.store.schema import opened
from momalisa_api.walks.between import AUTO
from momalisa_api.walks.common_spec import Effort, Spacing
from tests.support.factories import FakeFleet
from tests.support.served_api import served_api
from tests.support.walk_server import WALK, walk_server

SERVER_LIBRARIES = {"fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "pgqueuer", "pydantic", "google", "PIL"}


def test_a_refusal_that_sets_a_cookie_is_answered_with_it(tmp_path):
    """Otherwise nobody without a key could use the command while the queue is half full."""
    with walk_server(wants_cookie=True) as url:
        walk = client.request_and_save(url, {"stops": ["a", "b"]}, "walk.gif", tmp_path / "walk.gif")
    assert walk["state"] == "done"
    assert (tmp_path / "walk.gif").read_bytes() == b"a film"


def test_a_key_in_the_environment_is_sent(tmp_path, monkeypatch, capsys):
    """Deployments can require one. It is not an argument, which everybody on the machine could read."""
    fleet = FakeFleet()
    fleet.add()
    with served_api(tmp_path, fleet, sign_in="required", sign_in_proxies="192.0.2.1") as url:
        key = asyncio.run(_new_key(f"sqlite:///{tmp_path}/catalogue.sqlite"))
        out = tmp_path / "walk.gif"
        for sent, code, words in (
            (None, 2, "sign-in"),
            ("wrong", 2, "does not exist"),
            ("é", 2, "no key has"),
            (key, 0, ""),
        ):
            monkeypatch.setenv("MOMALISA_API_KEY", sent or "")
            with pytest.raises(SystemExit) as end:
                main.main(["walk", "--frames", "2", "--url", url, "--out", str(out), "a", "b"])
            assert (end.value.code, out.exists()) == (code, code == 0)
            assert words in capsys.readouterr().err


async def _new_key(database: str) -> str:
    async with opened(database) as engine:
        return await add_key(engine, "script")


def imported_by(folder: Path, *arguments: str) -> set[str]:
    """The top-level packages that a command imports."""
    command = [sys.executable, "-X", "importtime", "-m", "momalisa_api.cli.main", *arguments]
    ran = subprocess.run(command, cwd=folder, env={**os.environ, "MOMALISA_URL": ""}, capture_output=True, check=True)
    modules = re.findall(r"^import time: .*\| +(\S+)$", ran.stderr.decode(), re.MULTILINE)
    return {module.partition(".")[0] for module in modules}


def test_help_needs_no_library(tmp_path):
    """Help should not take a second."""
    imported = imported_by(tmp_path, "walk", "--help")
    assert "argparse" in imported
    assert imported & (SERVER_LIBRARIES | {"httpx", "rich"}) == set()


def test_a_walk_does_not_import_the_server(tmp_path):
    """A client on a laptop starts without the database, the queue and the web framework."""
    with walk_server() as url:
        imported = imported_by(tmp_path, "walk", "--url", url, "a", "b")
    assert (tmp_path / "walk.gif").read_bytes() == b"a film"
    assert "httpx" in imported
    assert imported & SERVER_LIBRARIES == set()


def test_a_walk_can_name_its_model(tmp_path, capsys):
    """Without it, the server takes its default."""
    requests: list[dict[str, object]] = []
    with walk_server(requests=requests) as url:
        for named in (["--model", "large"], []):
            arguments = ["walk", *named, "--url", url, "--out", str(tmp_path / "walk.gif"), "a", "b"]
            with pytest.raises(SystemExit) as end:
                main.main(arguments)
            assert end.value.code == 0
    assert [request.get("model") for request in requests] == ["large", None]


def test_the_command_offers_the_choices_of_the_api():
    """The command line repeats them, since their module is slow to import."""
    assert get_args(Spacing) == main.SPACING_CHOICES
    assert get_args(Effort) == main.EFFORT_CHOICES
    assert argument_types.AUTO_SEED == AUTO


PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
REFUSED = "http://127.0.0.1:9"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without proxies."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


def saved_from(url: str, folder: Path) -> bytes:
    out = folder / "walk.gif"
    client.request_and_save(url, {"stops": ["a", "b"]}, "walk.gif", out)
    return out.read_bytes()


@pytest.mark.parametrize("proxy", [REFUSED, "socks5://127.0.0.1:9", "nonsense://a"])
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_this_machine_is_reached_without_a_proxy(tmp_path, environment, proxy, host):
    """Offices set HTTP_PROXY for everything, and `make walk` found no server."""
    for name in PROXIES[:3]:
        environment.setenv(name, proxy)
    with walk_server(host="127.0.0.2" if host == "127.0.0.2" else "127.0.0.1") as url:
        assert saved_from(f"http://{host}:{url.rpartition(':')[2]}", tmp_path) == b"a film"


def test_other_hosts_are_reached_through_the_proxy_of_the_environment(tmp_path, environment):
    """The host exists for the proxy only."""
    with walk_server() as proxy:
        environment.setenv("HTTP_PROXY", proxy)
        assert saved_from("http://momalisa.invalid", tmp_path) == b"a film"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "nonsense://a", "http://[::1"])
def test_a_proxy_that_cannot_be_used_is_a_sentence(tmp_path, environment, proxy):
    """SOCKS needs a package that is not installed."""
    environment.setenv("ALL_PROXY", proxy)
    with pytest.raises(server_calls.WalkError, match="proxy"):
        saved_from("http://momalisa.invalid", tmp_path)


def test_certificates_that_cannot_be_read_are_a_sentence(tmp_path, environment):
    """Offices with a proxy also set SSL_CERT_FILE."""
    environment.setenv("SSL_CERT_FILE", "/nowhere.pem")
    with pytest.raises(server_calls.WalkError, match="SSL_CERT_FILE"):
        saved_from("https://momalisa.invalid", tmp_path)


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"url": "x"}'])
def test_another_server_is_a_sentence(tmp_path, answer):
    """A wrong port leads to some other program."""
    with walk_server(answer=answer) as url, pytest.raises(server_calls.WalkError, match="is not a MoMALisa server"):
        saved_from(url, tmp_path)


def test_a_server_cannot_change_the_terminal(tmp_path, capsys):
    """Prompts and warnings come from whoever asked for the walk first."""
    red = "\x1b[31mred"
    walk = WALK | {"spec": {"frames": 2, "stops": [red, "b"]}, "warnings": [red]}
    arguments = ["walk", "a", "b", "--out", str(tmp_path / "walk.gif")]
    with walk_server(answer=json.dumps(walk).encode()) as url, pytest.raises(SystemExit):
        main.main([*arguments, "--url", url])
    failed = json.dumps(walk | {"state": "failed", "error": red}).encode()
    with walk_server(answer=failed) as url, pytest.raises(SystemExit):
        main.main([*arguments, "--url", url])
    printed = "".join(capsys.readouterr())
    assert "\x1b" not in printed
    assert printed.count("\\x1b[31mred") == 4
