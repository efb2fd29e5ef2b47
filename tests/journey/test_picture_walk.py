"""A walk between a visitor's pictures, from the upload to the film, with real processes and the atelier."""

import io
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.support.deployment import Deployment
from tests.support.pictures import encoded, landscape, psnr
from tests.support.processes import wait_until

# What the atelier's autoencoder keeps of such pictures, less some room.
LEAST_DB = 24.0


@pytest.fixture
def visitor(deployment: Deployment) -> Iterator[httpx.Client]:
    """A client that keeps its cookie, as browsers do."""
    with httpx.Client(base_url=deployment.url, timeout=60) as client:
        yield client


def upload(visitor: httpx.Client, picture: Image.Image) -> str:
    answer = visitor.post("/api/v1/pictures", content=encoded(picture, "JPEG", quality=95))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def ended(visitor: httpx.Client, walk: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = wait_until(
        lambda: now if (now := visitor.get(walk["url"]).json())["state"] in ("done", "failed") else None, every_s=0.1
    )
    return found


def picture_at(visitor: httpx.Client, url: str) -> Image.Image:
    answer = visitor.get(url)
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content)).convert("RGB")


def test_a_walk_from_a_picture_through_a_prompt_to_a_picture(deployment, visitor):
    """Its ends show the pictures, its middle the prompt, and a replica killed with SIGKILL costs only time."""
    first, last = landscape(320, 240, seed=1), landscape(200, 300, seed=2)
    stops = [{"picture": upload(visitor, first)}, "a red spiral on white"]
    stops.append(
        {"picture": upload(visitor, last), "prompt": "blue waves", "crop": dict(x=0, y=100, width=200, height=200)}
    )
    answer = visitor.post("/api/v1/walks", json={"stops": stops, "frames": 17, "spacing": "uniform", "seed": 3})
    assert answer.status_code == 201, answer.text
    busy = wait_until(lambda: next((proxy for proxy in deployment.proxies if proxy.recording.in_flight), None))
    wait_until(lambda: visitor.get(answer.json()["url"]).json()["frames_ready"])
    deployment.replica_behind(busy).kill()
    walk = ended(visitor, answer.json())
    assert (walk["state"], walk["frames_ready"]) == ("done", list(range(17))), walk["error"]
    frames = [picture_at(visitor, f"{walk['url']}/frames/{number}.png") for number in (0, 8, 16)]
    size = frames[0].size
    assert psnr(frames[0], first.crop((40, 0, 280, 240)).resize(size, Image.Resampling.LANCZOS)) > LEAST_DB
    assert psnr(frames[2], last.crop((0, 100, 200, 300)).resize(size, Image.Resampling.LANCZOS)) > LEAST_DB
    assert picture_at(visitor, walk["films"]["walk.gif"]).size == size
    prompt = visitor.post("/api/v1/walks", json={"stops": [stops[1], "a star"], "frames": 2, "seed": 3}).json()
    ended(visitor, prompt)
    alone = picture_at(visitor, f"{prompt['url']}/frames/0.png")
    assert alone.tobytes() == frames[1].tobytes(), "a prompt beside pictures has the frame that it always has"
    wait_until(lambda: deployment.awake() == 2)
