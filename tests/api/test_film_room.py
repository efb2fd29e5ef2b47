"""Films of large walks in a small container: what is on its disk does not grow with the walk."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image

from momalisa_api.films import films, mp4
from momalisa_api.web.clip_intake import CLIP_UPLOADS
from momalisa_api.work.clip_sources import MAX_CLIPS_BYTES
from tests.support.factories import ended, running
from tests.support.films import make_gif
from tests.support.finished_walks import noise_frames

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 9, "spacing": "uniform", "width": 128, "height": 128}


def test_containers_have_room_for_what_films_may_need():
    """tmpfs counts as memory of the container, too: what is left must do for the encoders (0.3 GiB at 1024 px)."""
    filmed = films.MAX_GIF_BYTES + mp4.FULL.max_bytes + mp4.PREVIEW.max_bytes
    needed = filmed + MAX_CLIPS_BYTES + CLIP_UPLOADS.max_bytes
    worker = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["api-worker"]
    assert worker["tmpfs"] == ["/tmp:size=768m"]
    assert worker["deploy"]["resources"]["limits"]["memory"] == "1536M"
    assert needed <= 768 * 2**20
    assert needed + 2**29 <= 1536 * 2**20
    deployment = next(yaml.safe_load_all((ROOT / "k8s/base/worker.yaml").read_text()))
    [room] = [
        volume["emptyDir"] for volume in deployment["spec"]["template"]["spec"]["volumes"] if "emptyDir" in volume
    ]
    assert room == {"sizeLimit": "1Gi"}


@pytest.mark.parametrize("limit", [100, 1500, 3000])
async def test_a_film_that_is_too_large_is_left_out_with_a_word(settings, fleet, monkeypatch, limit):
    """The walk is done without it: one that can never be filmed would be tried again and again."""
    monkeypatch.setattr(films, "MAX_GIF_BYTES", limit)
    monkeypatch.setattr(mp4, "FULL", replace(mp4.FULL, max_bytes=limit))
    fleet.add(paint=lambda recipe, fraction: noise_frames(9, 1)[round(fraction * 8)])
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        assert walk["state"] == "done"
        assert set(walk["films"]) == {"poster.webp", "poster.jpg", "preview.mp4"}
        assert [warning.split()[0] for warning in walk["warnings"]] == ["walk.gif", "walk.mp4"]
        for name in ("walk.gif", "walk.mp4"):
            answer = await client.get(f"{walk['url']}/{name}")
            assert (answer.status_code, answer.json()["type"]) == (406, "urn:momalisa:problem:not-acceptable")
            assert "too large" in answer.json()["detail"]
        again = await client.post("/api/v1/walks", json=REQUEST)
    assert again.status_code == 200


def test_a_gif_is_not_too_large_for_its_way_back_alone(tmp_path, monkeypatch):
    """The size is known before the way back is written."""
    pictures = [Image.open(io.BytesIO(png)).convert("RGB") for png in noise_frames(9, 1)]
    make_gif(pictures, tmp_path / "one-way.gif", there_and_back=False)
    monkeypatch.setattr(films, "MAX_GIF_BYTES", (tmp_path / "one-way.gif").stat().st_size + 10)
    make_gif(pictures, tmp_path / "again.gif", there_and_back=False)
    with pytest.raises(films.FilmTooLarge):
        make_gif(pictures, tmp_path / "walk.gif")
    with Image.open(tmp_path / "again.gif") as picture:
        assert picture.n_frames == 9
