"""A walk with the real processes and the embedded model."""

import io
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from momalisa_api.walks.spec import read_forward
from tests.support.deployment import SCRIPTS, Deployment, wait_until
from tests.support.processes import start
from tests.support.stock_pipeline import StockPipeline

REQUEST = {
    "start": "a red sunburst on yellow",
    "end": "a blue spiral on white",
    "frames": 25,
    "seed": 7,
    "spacing": "uniform",
}


@pytest.fixture(scope="session")
def walk(deployment: Deployment) -> dict[str, Any]:
    """The walk that most tests use, rendered once."""
    walk = deployment.ended(deployment.request_walk(**REQUEST))
    assert walk["state"] == "done", walk
    return walk


def picture(deployment: Deployment, walk: dict[str, Any], index: int) -> np.ndarray:
    png = deployment.fetch(f"{walk['url']}/frames/{index}.png")
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_both_replicas_have_rendered(deployment, walk):
    """Fan-out is the purpose of the system: no replica is idle while another has work."""
    shares = [len(set(proxy.recording.frames)) for proxy in deployment.proxies]
    assert sum(shares) >= 25
    assert min(shares) >= 5


@pytest.mark.parametrize("index", [0, 5, 12, 17, 24])
def test_frames_are_what_the_stock_pipeline_paints(deployment, walk, stock, index):
    """At the ends and between: a mere cross-fade of the two ends would look like a walk, but fails here."""
    frame = picture(deployment, walk, index).astype(int)
    reference = stock.paint(walk["spec"], index / 24).astype(int)
    assert np.abs(frame - reference).max() <= 1


@pytest.fixture(scope="session")
def stock() -> StockPipeline:
    return StockPipeline()


def test_the_walk_moves(deployment, walk):
    """Its ends differ clearly, and the middle is not their mean."""
    start, middle, end = (picture(deployment, walk, index).astype(float) for index in (0, 12, 24))
    assert np.abs(start - end).mean() > 20
    assert np.abs(middle - (start + end) / 2).mean() > 5


def test_the_gif_goes_there_and_back_and_the_mp4_there(deployment, walk, tmp_path):
    """48 and 25 frames, read by independent decoders."""
    with Image.open(io.BytesIO(deployment.fetch(walk["films"]["walk.gif"]))) as gif:
        assert (gif.n_frames, gif.info["loop"]) == (48, 0)
    with av.open(io.BytesIO(deployment.fetch(walk["films"]["walk.mp4"]))) as mp4:
        assert len(list(mp4.decode(video=0))) == 25
        comment = json.loads(mp4.metadata["comment"])
    assert comment.pop("fractions") == [number / 24 for number in range(25)]
    assert comment.pop("version") == 2
    assert comment.pop("early_legs") == []
    assert len(comment.pop("fingerprints")) == 1
    assert read_forward(comment, 2) == {**walk["spec"], "smoothness": walk["smoothness"], "scope": None}


def test_another_seed_is_another_walk(deployment, walk):
    """Every frame starts from the seed's noise."""
    other = deployment.ended(deployment.request_walk(**{**REQUEST, "seed": 8, "frames": 2}))
    assert np.abs(picture(deployment, walk, 0).astype(int) - picture(deployment, other, 0)).mean() > 1


def test_a_repeated_request_renders_nothing(deployment, walk):
    """The proxy counts frames, not the code under test."""
    before = len(deployment.rendered)
    url = f"{deployment.url}/api/v1/walk"
    query = {"start": REQUEST["start"], "end": REQUEST["end"], "frames": 25, "seed": 7, "spacing": "uniform"}
    assert httpx.get(url, params=query, timeout=30).headers["content-type"] == "image/gif"
    assert deployment.request_walk(**REQUEST)["state"] == "done"
    assert len(deployment.rendered) == before


def test_a_longer_walk_renders_only_the_frames_between(deployment, walk):
    """49 frames after 25 are 24 new ones."""
    before = set(deployment.rendered)
    longer = deployment.ended(deployment.request_walk(**{**REQUEST, "frames": 49}))
    assert longer["state"] == "done"
    assert len(set(deployment.rendered) - before) == 24


def test_a_replica_killed_during_a_walk_costs_only_time(deployment):
    """The other replica renders the rest of its shard; frames that were sent already are not rendered again."""
    walk = deployment.request_walk(**{**REQUEST, "seed": 9})
    wait_until(lambda: deployment.read(walk)["frames_ready"])
    busy = wait_until(lambda: next((proxy for proxy in deployment.proxies if proxy.recording.in_flight), None))
    deployment.replica_behind(busy).kill()
    walk = deployment.ended(walk)
    assert walk["state"] == "done", walk
    assert walk["frames_ready"] == list(range(25))
    rendered = [frame for recipe, frame in deployment.rendered if json.loads(recipe)["seed"] == 9]
    assert len(rendered) == len(set(rendered)) == 25
    wait_until(lambda: deployment.awake() == 2)


def test_events_follow_a_walk_to_its_end(deployment):
    """Server-sent events through a real server: snapshots only grow, and the last one is done."""
    walk = deployment.request_walk(**{**REQUEST, "seed": 10, "frames": 13})
    snapshots: list[tuple[int, dict[str, Any]]] = []
    with httpx.stream("GET", f"{deployment.url}{walk['url']}/events", timeout=60) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        event: dict[str, str] = {}
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            event[name] = value
            if not line and "data" in event:
                snapshots.append((int(event["id"]), json.loads(event["data"])))
                event = {}
    revisions = [revision for revision, _ in snapshots]
    counts = [len(snapshot["frames_ready"]) for _, snapshot in snapshots]
    assert revisions == sorted(set(revisions))
    assert counts == sorted(counts)
    assert snapshots[-1][1]["state"] == "done"
    assert len(snapshots) > 3
    resumed = httpx.get(
        f"{deployment.url}{walk['url']}/events", headers={"Last-Event-ID": str(revisions[-1])}, timeout=60
    )
    assert resumed.text.count("data:") == 1


def momalisa(deployment: Deployment, *arguments: str, command: str = "walk") -> subprocess.CompletedProcess[str]:
    line = [str(SCRIPTS / "momalisa"), command, *arguments]
    environment = {**os.environ, "MOMALISA_URL": deployment.url}
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_saves_a_film(deployment, tmp_path):
    """The same walk from a terminal: the file name selects MP4; JSON is for scripts."""
    out = tmp_path / "walk.mp4"
    ran = momalisa(deployment, REQUEST["start"], REQUEST["end"], "--seed", "7", "--out", str(out), "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["state"] == "done"
    with av.open(str(out)) as film:
        assert len(list(film.decode(video=0))) == 25


def test_replay_makes_the_walk_of_a_film_again(deployment, walk, tmp_path):
    """The film is all that a visitor has kept: the same walk, so the same pictures."""
    film = tmp_path / "kept.mp4"
    film.write_bytes(deployment.fetch(walk["films"]["walk.mp4"]))
    before = len(deployment.rendered)
    again = momalisa(deployment, str(film), "--out", str(tmp_path / "again.gif"), "--json", command="replay")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["id"] == walk["id"]
    assert (tmp_path / "again.gif").read_bytes() == deployment.fetch(walk["films"]["walk.gif"])
    assert len(deployment.rendered) == before


def test_the_command_prints_problems_as_sentences(deployment, tmp_path):
    """Exit code 2 for errors in the request, 3 if no server responds; no file is left behind."""
    bad = momalisa(deployment, "a", "b", "--frames", "9999", "--out", str(tmp_path / "walk.gif"))
    assert bad.returncode == 2
    assert "frames must be 2 to 241" in bad.stderr
    unreachable = momalisa(deployment, "a", "b", "--url", "http://127.0.0.1:9", "--out", str(tmp_path / "walk.gif"))
    assert unreachable.returncode == 3
    assert "No server responds" in unreachable.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_withdraws_the_request(deployment, tmp_path):
    """Replicas must not go on working for a user who no longer waits."""
    walk = ["a gold wave", "a teal flower", "--frames", "241", "--spacing", "uniform", "--seed", "3"]
    command = [str(SCRIPTS / "momalisa"), "walk", *walk, "--url", deployment.url, "--out", str(tmp_path / "walk.gif")]
    process = start([*command, "--json"], stdout=subprocess.PIPE)

    def newest() -> dict[str, Any] | None:
        walks = httpx.get(f"{deployment.url}/api/v1/walks?limit=1").json()["walks"]
        return next((walk for walk in walks if walk["spec"]["frames"] == 241 and walk["frames_ready"]), None)

    walk = wait_until(newest)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=90)
    assert process.returncode == 130
    assert deployment.read(walk)["state"] == "cancelled"
    # Frames in flight may still arrive; after them no frame does.
    settled = wait_until(lambda: len(deployment.rendered))
    again = deployment.ended(deployment.request_walk(**{**REQUEST, "frames": 2, "seed": 11}))
    assert again["state"] == "done"
    assert len(deployment.rendered) - settled < 25


def test_the_curl_command_that_up_prints_works(deployment, tmp_path):
    """New users copy it first. It goes on by itself if the walk takes more than 25 s."""
    log = Path(deployment.log).read_text()
    [line] = [line for line in log.splitlines() if "curl " in line]
    command = line[line.index("curl ") :]
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, timeout=120, capture_output=True)
    with Image.open(tmp_path / "walk.gif") as gif:
        assert gif.n_frames == 48
