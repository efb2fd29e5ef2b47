"""The addresses of `momalisa up`, without any process."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from momalisa_api.cli import up
from momalisa_api.cli.errors import CommandError
from momalisa_api.cli.greeting import greeting


@pytest.fixture
def deployments(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[up.SupervisedCommand], str]]:
    """Gets the commands and the URL of each deployment, which is not started."""
    started: list[tuple[list[up.SupervisedCommand], str]] = []

    def run(_: object, commands: list[up.SupervisedCommand], url: str) -> int:
        started.append((commands, url))
        return 0

    monkeypatch.setattr(up.anyio, "run", run)
    return started


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Makes this machine have so many GPUs: a torch of this build, and an nvidia-smi that lists them."""

    def has(gpus: int, torch: str = "2.13.0+cu130", **environment: str) -> None:
        tool = tmp_path / "nvidia-smi"
        listed = "".join(f"GPU {index}: NVIDIA L4 (UUID: GPU-{index})\n" for index in range(gpus))
        tool.write_text(f"#!/bin/sh\ncat <<E\n{listed}E\n" if gpus else "#!/bin/sh\nexit 9\n")
        tool.chmod(0o755)
        (tmp_path / f"torch-{torch}.dist-info").mkdir()
        (tmp_path / f"torch-{torch}.dist-info" / "METADATA").write_text(f"Name: torch\nVersion: {torch}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        for name in ("CUDA_VISIBLE_DEVICES", "MOMALISA_DEVICE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return has


@pytest.mark.parametrize(
    ("gpus", "settings", "wanted", "devices"),
    [
        (0, {}, None, ["", ""]),
        (1, {}, None, ["cuda:0"]),
        (3, {}, None, ["cuda:0", "cuda:1", "cuda:2"]),
        (2, {}, 3, ["cuda:0", "cuda:1", "cuda:0"]),
        (3, {"CUDA_VISIBLE_DEVICES": "2,0"}, None, ["cuda:0", "cuda:1"]),
        (3, {"CUDA_VISIBLE_DEVICES": ""}, None, ["", ""]),
        (3, {"CUDA_VISIBLE_DEVICES": "-1"}, None, ["", ""]),
        (3, {"MOMALISA_DEVICE": "cuda"}, None, ["cuda:0", "cuda:1", "cuda:2"]),
        (3, {"MOMALISA_DEVICE": "cpu"}, None, ["cpu", "cpu"]),
        (3, {"MOMALISA_DEVICE": "cuda:1"}, 1, ["cuda:1"]),
        (3, {"torch": "2.13.0+cpu"}, None, ["", ""]),
    ],
)
def test_each_gpu_gets_a_replica_of_its_own(machine, deployments, gpus, settings, wanted, devices):
    """Two replicas on the first GPU would leave the others idle, and share one's memory."""
    machine(gpus, **settings)
    assert up.run_deployment(wanted) == 0
    [([*replicas, api], _)] = deployments
    assert [replica.environment.get("MOMALISA_DEVICE", "") for replica in replicas] == devices
    assert len(api.environment["MOMALISA_REPLICAS"].split()) == len(devices)


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
def test_up_waits_at_the_address_that_the_api_listens_on(monkeypatch, deployments, host, visited):
    """It waited five minutes at 127.0.0.1, beside a running system."""
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    [port] = up._free_ports(1)
    monkeypatch.setenv("MOMALISA_HOST", host)
    monkeypatch.setenv("MOMALISA_PORT", str(port))
    assert up.run_deployment(1) == 0
    assert [url for _, url in deployments] == [f"{visited}:{port}"]


def test_a_port_is_in_use_only_at_the_address_of_the_api(monkeypatch, deployments):
    """Two addresses of a machine can have the same port."""
    with socket.create_server(("127.0.0.2", 0)) as held:
        monkeypatch.setenv("MOMALISA_PORT", str(held.getsockname()[1]))
        monkeypatch.setenv("MOMALISA_HOST", "127.0.0.1")
        assert up.run_deployment(1) == 0
        monkeypatch.setenv("MOMALISA_HOST", "127.0.0.2")
        with pytest.raises(CommandError, match=r"is in use\. Set MOMALISA_PORT"):
            up.run_deployment(1)
    assert len(deployments) == 1


def test_an_address_of_another_machine_is_refused(monkeypatch, deployments):
    """The API would end with an error of the operating system only."""
    monkeypatch.setenv("MOMALISA_HOST", "192.0.2.1")
    with pytest.raises(CommandError, match=r"cannot listen at 192\.0\.2\.1"):
        up.run_deployment(1)


def test_the_port_of_a_replica_that_is_in_use_is_named(monkeypatch, deployments):
    """The replica would crash and be restarted for ever."""
    [port] = up._free_ports(1)
    monkeypatch.setenv("MOMALISA_PORT", str(port))
    monkeypatch.delenv("MOMALISA_HOST", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as held, pytest.raises(CommandError, match="Set --first-port"):
        up.run_deployment(1, held.getsockname()[1])
    assert deployments == []


def test_the_greeting_names_a_command_for_each_kind_that_is_offered():
    """A kind without a model would be refused, and so would a walk of prompts by a model of styles."""
    card = {"about": {"examples": [["a sun", "a moon"]]}}
    styles = {"name": "styles", "default": False, "kinds": ["restyle", "clip"], "styles": [{"name": "mosaic"}]}
    walks = {"name": "atelier", "default": True, "kinds": ["between"], "styles": []}
    url = "http://127.0.0.1:8001"
    text = greeting(url, [{**styles, "card": card}, {**walks, "card": card}], 2, gallery=True)
    assert f"{url}/\n" in text
    assert f"'{url}/api/v1/walk?start=a+sun&end=a+moon&frames=25&wait=25'" in text
    assert f"momalisa restyle photo.jpg --style mosaic --url {url}\n" in text
    assert f"momalisa clip film.mp4 --style mosaic --url {url}\n" in text
    assert "momalisa into" not in text
