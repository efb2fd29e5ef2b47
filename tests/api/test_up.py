"""The addresses of `momalisa up`, without any process."""

import socket

import pytest

from momalisa_api.cli import up
from momalisa_api.cli.errors import CommandError


@pytest.fixture
def url_of_deployment(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gets the URL that `up` greets with, in place of a deployment."""
    urls: list[str] = []

    def run(_: object, commands: list[up.SupervisedCommand], url: str) -> int:
        urls.append(url)
        return 0

    monkeypatch.setattr(up.anyio, "run", run)
    return urls


@pytest.mark.parametrize(
    ("host", "visited"),
    [
        ("127.0.0.2", "http://127.0.0.2"),
        ("0.0.0.0", "http://127.0.0.1"),
        ("::", "http://[::1]"),
        ("::1", "http://[::1]"),
        ("localhost", "http://localhost"),
        ("", "http://127.0.0.1"),
    ],
)
def test_up_waits_at_the_address_that_the_api_listens_on(monkeypatch, url_of_deployment, host, visited):
    """It waited five minutes at 127.0.0.1, beside a running system."""
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    [port] = up._free_ports(1)
    monkeypatch.setenv("MOMALISA_HOST", host)
    monkeypatch.setenv("MOMALISA_PORT", str(port))
    assert up.run_deployment(1) == 0
    assert url_of_deployment == [f"{visited}:{port}"]


def test_a_port_is_in_use_only_at_the_address_of_the_api(monkeypatch, url_of_deployment):
    """Two addresses of a machine can have the same port."""
    with socket.create_server(("127.0.0.2", 0)) as held:
        monkeypatch.setenv("MOMALISA_PORT", str(held.getsockname()[1]))
        monkeypatch.setenv("MOMALISA_HOST", "127.0.0.1")
        assert up.run_deployment(1) == 0
        monkeypatch.setenv("MOMALISA_HOST", "127.0.0.2")
        with pytest.raises(CommandError, match=r"is in use\. Set MOMALISA_PORT"):
            up.run_deployment(1)
    assert len(url_of_deployment) == 1


def test_an_address_of_another_machine_is_refused(monkeypatch, url_of_deployment):
    """The API would end with an error of the operating system only."""
    monkeypatch.setenv("MOMALISA_HOST", "192.0.2.1")
    with pytest.raises(CommandError, match=r"cannot listen at 192\.0\.2\.1"):
        up.run_deployment(1)


def test_the_port_of_a_replica_that_is_in_use_is_named(monkeypatch, url_of_deployment):
    """The replica would crash and be restarted for ever."""
    [port] = up._free_ports(1)
    monkeypatch.setenv("MOMALISA_PORT", str(port))
    monkeypatch.delenv("MOMALISA_HOST", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as held, pytest.raises(CommandError, match="Set --first-port"):
        up.run_deployment(1, held.getsockname()[1])
    assert url_of_deployment == []
