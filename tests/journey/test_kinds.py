"""Walks of the other kinds with real processes: from an upload to the film, with SIGKILL in between."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from tests.support.clips import clip
from tests.support.effects import Effects, effects
from tests.support.mail_server import MailServer, mail_server
from tests.support.pictures import encoded, landscape
from tests.support.processes import wait_until

SIZE = 96
FRAMES = 9


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    with mail_server() as running:
        yield running


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, mail: MailServer) -> Iterator[Effects]:
    smtp = {
        "MOMALISA_SMTP_HOST": "127.0.0.1",
        "MOMALISA_SMTP_PORT": str(mail.port),
        "MOMALISA_SMTP_TLS": "none",
        "MOMALISA_SMTP_FROM": "walks@walks.example",
        "MOMALISA_PUBLIC_URL": "https://walks.example",
    }
    with effects(tmp_path_factory.mktemp("effects"), **smtp) as running:
        yield running


@pytest.fixture
def visitor(deployment: Effects) -> Iterator[httpx.Client]:
    """A client that keeps its cookie, as browsers do."""
    with httpx.Client(base_url=deployment.url, timeout=60) as client:
        yield client


def upload(visitor: httpx.Client, content: bytes, path: str = "pictures") -> str:
    answer = visitor.post(f"/api/v1/{path}", content=content)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def photo(visitor: httpx.Client, seed: int) -> dict[str, str]:
    return {"picture": upload(visitor, encoded(landscape(SIZE, SIZE * 3 // 4, seed), "PNG"))}


def requested(visitor: httpx.Client, **request: Any) -> dict[str, Any]:
    answer = visitor.post("/api/v1/walks", json={"size": SIZE, **request})
    assert answer.status_code == 201, answer.text
    walk: dict[str, Any] = answer.json()
    return walk


def done(visitor: httpx.Client, walk: dict[str, Any]) -> dict[str, Any]:
    """The finished walk."""
    found: dict[str, Any] = wait_until(
        lambda: now if (now := visitor.get(walk["url"]).json())["state"] in ("done", "failed") else None, every_s=0.1
    )
    assert (found["state"], found["frames_ready"]) == ("done", list(range(found["spec"]["frames"]))), found["error"]
    return found


def read(visitor: httpx.Client, url: str) -> bytes:
    answer = visitor.get(url)
    assert answer.status_code == 200, (url, answer.text)
    return answer.content


def pixels(visitor: httpx.Client, url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(read(visitor, url))))


def frame(visitor: httpx.Client, walk: dict[str, Any], number: int) -> np.ndarray:
    return pixels(visitor, f"{walk['url']}/frames/{number}.png")


def test_a_walk_into_a_picture_outlives_its_replica(deployment, visitor):
    """Its loop closes, and the new replica gives the extras that the first one had not sent."""
    trap = deployment.kill_at("frame stored", 2, deployment.replica)
    walk = requested(visitor, kind="into", picture=photo(visitor, 1), motion="circle", frames=FRAMES)
    trap.wait()
    deployment.replica.start()
    walk = done(visitor, walk)
    assert np.array_equal(frame(visitor, walk, 0), frame(visitor, walk, FRAMES - 1))
    assert not np.array_equal(frame(visitor, walk, 0), frame(visitor, walk, FRAMES // 2))
    extras = {extra["name"]: pixels(visitor, extra["url"]) for extra in walk["extras"]}
    assert extras["depth.png"].dtype == np.uint16
    assert extras["cutout.png"].shape == (SIZE * 3 // 4, SIZE, 4)


def test_a_restyled_picture_outlives_its_worker_and_is_sent_by_mail(deployment, visitor, mail):
    """From the picture itself to the portrait. With the link in the mail, anybody can open it; without, nobody else."""
    picture, style = photo(visitor, 2), first_style(visitor, "restyle")
    trap = deployment.kill_at("frame stored", 2, deployment.worker)
    walk = requested(visitor, kind="restyle", picture=picture, style=style, frames=FRAMES)
    trap.wait()
    asked = visitor.post(f"{walk['url']}/mail", json={"address": "you@example.com"})
    assert asked.status_code == 202, asked.text
    deployment.worker.start()
    assert "Address confirmed" in visitor.post(link_in(mail, 0)).text
    walk = done(visitor, walk)
    own = pixels(visitor, f"/api/v1/pictures/{picture['picture']}.png")
    assert np.array_equal(frame(visitor, walk, 0), own)
    assert np.abs(frame(visitor, walk, FRAMES - 1).astype(int) - own).mean() > 5
    link = link_in(mail, 1).rpartition("?link=")[2]
    with httpx.Client(base_url=deployment.url) as other:
        still = f"{walk['url']}/frames/{FRAMES - 1}.png"
        assert other.get(still).status_code == 404
        assert other.get(still, params={"link": link}).status_code == 200


def link_in(mail: MailServer, number: int) -> str:
    """The path of the first link in a mail, which is waited for."""
    found = wait_until(lambda: mail.mails[number : number + 1])[0]
    return re.findall(r"https://walks\.example(/\S+)", found.get_body(("plain",)).get_content())[0]


def first_style(visitor: httpx.Client, kind: str) -> str:
    models = visitor.get("/api/v1/models").json()["models"]
    return next(str(model["styles"][0]["name"]) for model in models if kind in model["kinds"])


def test_a_clip_outlives_its_replica_and_keeps_its_sound(deployment, visitor):
    """Its film has as many frames as the clip, and is as long."""
    content = clip(frames=12, rate=10, size=(SIZE, 64), sound="aac")
    trap = deployment.kill_at("frame stored", 2, deployment.replica)
    style = first_style(visitor, "clip")
    walk = requested(visitor, kind="clip", clip=upload(visitor, content, "clips"), style=style)
    trap.wait()
    deployment.replica.start()
    walk = done(visitor, walk)
    with av.open(io.BytesIO(read(visitor, walk["films"]["walk.mp4"]))) as film:
        [video], [sound] = film.streams.video, film.streams.audio
        assert (video.frames, video.width, video.height) == (12, SIZE, 64)
        assert abs(float(video.duration * video.time_base) - 1.2) < 0.11
        assert sound.duration


def test_a_frame_of_another_walk_is_taken_apart_and_outlives_its_worker(deployment, visitor):
    """The frame becomes a picture of the visitor without a download and an upload."""
    first = done(visitor, requested(visitor, kind="into", picture=photo(visitor, 3), frames=3))
    taken = visitor.post("/api/v1/pictures", json={"walk": first["id"], "frame": 1})
    assert taken.status_code == 201, taken.text
    trap = deployment.kill_at("frame stored", 2, deployment.worker)
    picture = {"picture": taken.json()["id"]}
    walk = requested(visitor, kind="apart", picture=picture, threshold=0.05, most=5, frames=FRAMES)
    trap.wait()
    deployment.worker.start()
    walk = done(visitor, walk)
    assert np.array_equal(frame(visitor, walk, 0), frame(visitor, first, 1))
    found = json.loads(read(visitor, f"{walk['url']}/extras/instances.json"))
    assert (found["width"], found["height"]) == (SIZE, SIZE * 3 // 4)
    assert len(walk["extras"]) == 1 + len(found["instances"])
