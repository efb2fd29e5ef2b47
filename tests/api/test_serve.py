"""`momalisa serve` as a process: its start and its end."""

import os
import resource
import signal
import subprocess
import threading

import httpx
import pytest

from momalisa_api.server import OPEN_FILES_OF_SERVER, allow_many_connections
from tests.support.api_process import answers, serving
from tests.support.deployment import wait_until
from tests.support.factories import write_card
from tests.support.processes import SCRIPTS


def test_a_terminated_server_ends_its_streams_and_long_polls(tmp_path):
    """An orderly end lets browsers reconnect to another process."""
    with serving(tmp_path) as (process, url):
        wait_until(lambda: answers(url))
        walk = httpx.post(f"{url}/api/v1/walks", json={"start": "a", "end": "b"}).json()
        lines: list[str] = []
        statuses: list[int] = []

        def watch() -> None:
            with httpx.stream("GET", f"{url}{walk['url']}/events", timeout=30) as stream:
                lines.extend(stream.iter_lines())
            lines.append("the end")

        def poll() -> None:
            statuses.append(httpx.get(f"{url}/api/v1/walk?start=a&end=b&wait=25", timeout=30).status_code)

        watchers = [threading.Thread(target=act) for act in (watch, poll)]
        for watcher in watchers:
            watcher.start()
        wait_until(lambda: lines)
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=10)
        for watcher in watchers:
            watcher.join(10)
    assert lines[-1] == "the end"
    assert statuses == [503], "the film is not there: the client asks another process"
    assert process.returncode == 0
    assert "Traceback" not in out + errors


def test_a_server_may_have_more_connections_than_a_process_of_this_system_by_default():
    """Of a thousand visitors, the last ones could not connect: each connection is an open file."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        allow_many_connections()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] in (before[1], OPEN_FILES_OF_SERVER)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_an_invalid_setting_is_reported_in_one_line(tmp_path):
    """Operators must find it in a log of a thousand lines."""
    with serving(tmp_path, MOMALISA_REPLICAS="http://127.0.0.1:99999") as (process, _):
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert errors.startswith("MOMALISA_REPLICAS: 'http://127.0.0.1:99999' is not a replica address")
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("command", [["serve"], ["migrate"], ["keys", "add", "robot"]], ids=" ".join)
def test_an_unsupported_database_is_reported_in_one_line(tmp_path, command):
    """By every command that opens it, and without the password that its URL may contain."""
    settings = {
        "MOMALISA_MODEL_CARD": str(write_card(tmp_path)),
        "MOMALISA_DATABASE_URL": "mysql://somebody:secret@somewhere/momalisa",
    }
    done = subprocess.run(
        [SCRIPTS / "momalisa", *command], env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "MOMALISA_DATABASE_URL: must be sqlite:///FILE or postgresql://USER@HOST/NAME\n"


def test_a_missing_model_card_is_reported_in_a_sentence(tmp_path):
    """With the file's name, and the command that writes one."""
    with serving(tmp_path, MOMALISA_MODEL_CARD=str(tmp_path / "none.json")) as (process, _):
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "momalisa-model card" in errors
    assert "Traceback" not in errors
