"""`momalisa serve` as a process: how it starts, and how it stops."""

import signal
import threading

import httpx

from tests.support.api_process import answers, serving
from tests.support.deployment import wait_until


def test_told_to_stop_it_lets_its_watchers_go(tmp_path):
    """Streams and held lines end in good order, so that browsers reconnect elsewhere."""
    with serving(tmp_path) as (process, url):
        wait_until(lambda: answers(url))
        walk = httpx.post(f"{url}/api/v1/walks", json={"start": "a", "end": "b"}).json()
        heard: list[str] = []
        held: list[int] = []

        def watch() -> None:
            with httpx.stream("GET", f"{url}{walk['url']}/events", timeout=30) as stream:
                heard.extend(stream.iter_lines())
            heard.append("the end")

        def hold() -> None:
            held.append(httpx.get(f"{url}/api/v1/walk?start=a&end=b&wait=25", timeout=30).status_code)

        watchers = [threading.Thread(target=act) for act in (watch, hold)]
        for watcher in watchers:
            watcher.start()
        wait_until(lambda: heard)
        process.send_signal(signal.SIGTERM)
        out, complaints = process.communicate(timeout=10)
        for watcher in watchers:
            watcher.join(10)
    assert heard[-1] == "the end"
    assert held == [202]
    assert process.returncode == 0
    assert "Traceback" not in out + complaints


def test_a_setting_that_does_not_fit_is_a_sentence(tmp_path):
    """An operator reads it in a log, among a thousand lines."""
    with serving(tmp_path, MOMALISA_REPLICAS="http://127.0.0.1:99999") as (process, _):
        _, complaints = process.communicate(timeout=20)
    assert process.returncode == 2
    assert complaints.startswith("MOMALISA_REPLICAS: 'http://127.0.0.1:99999' is not a replica address")
    assert len(complaints.splitlines()) == 1


def test_a_card_that_is_not_there_is_a_sentence(tmp_path):
    """Which file, and how to get one."""
    with serving(tmp_path, MOMALISA_MODEL_CARD=str(tmp_path / "none.json")) as (process, _):
        _, complaints = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "momalisa-model card" in complaints
    assert "Traceback" not in complaints
