"""Walks whose stops are pictures, from the request to the frames, with fake replicas."""

import base64
import hashlib
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageChops
from sqlalchemy import select, update

from momalisa_api.problems import Invalid
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.pictures import PictureStore
from momalisa_api.store.schema import opened
from momalisa_api.store.tables import picture_uses, pictures
from momalisa_api.work.stop_pictures import scaled
from tests.support import exiftool
from tests.support.factories import CARD, FakeFleet, ended, running, spec
from tests.support.pictures import encoded, scene

pytestmark = pytest.mark.anyio
WALKS = "/api/v1/walks"
ABLE = ("pictures",)


async def uploaded(client: httpx.AsyncClient, picture: Image.Image) -> str:
    answer = await client.post("/api/v1/pictures", content=encoded(picture, "PNG"))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def request(client: httpx.AsyncClient, *stops: Any, **options: Any) -> httpx.Response:
    body = {"stops": stops, "frames": 5, "spacing": "uniform", **options}
    return await client.post(WALKS, json=body)


async def walked(client: httpx.AsyncClient, *stops: Any, **options: Any) -> dict[str, Any]:
    """The walk once it has ended."""
    answer = await request(client, *stops, **options)
    assert answer.status_code in (200, 201), answer.text
    return await ended(client, answer.json())


async def frame_of(client: httpx.AsyncClient, walk: dict[str, Any], number: int) -> Image.Image:
    return Image.open(io.BytesIO((await client.get(f"{walk['url']}/frames/{number}.png")).content)).convert("RGB")


def equal(one: Image.Image, other: Image.Image) -> bool:
    return ImageChops.difference(one, other).getbbox() is None


async def test_a_walk_goes_from_a_picture_through_a_prompt_to_another_picture(settings, fleet):
    """Its ends are the pictures: cut out, scaled to the frames, and sent to replicas by the hashes of these files."""
    replica = fleet.add(features=ABLE)
    async with running(settings, fleet) as client:
        wide, tall = scene(64, 48), scene(40, 80).rotate(180)
        first, last = await uploaded(client, wide), await uploaded(client, tall)
        crop = {"x": 4, "y": 40, "width": 32, "height": 32}
        stops = [{"picture": first, "prompt": " a giraffe "}, "a star", {"picture": last, "crop": crop}]
        walk = await walked(client, *stops, strength=0.5)
        assert (walk["state"], walk["spec"]["strength"]) == ("done", 0.5), walk["error"]
        whole = {"x": 8, "y": 0, "width": 48, "height": 48}
        assert walk["spec"]["stops"] == [
            {"picture": first, "prompt": "a giraffe", "crop": whole},
            "a star",
            {"picture": last, "prompt": "", "crop": crop},
        ]
        assert equal(await frame_of(client, walk, 0), wide.crop((8, 0, 56, 48)).resize((32, 32), 1))
        assert equal(await frame_of(client, walk, 4), tall.crop((4, 40, 36, 72)))
    for sent in replica.pictures_sent:
        [(name, file)] = sent.items()
        content = base64.b64decode(file)
        assert hashlib.sha256(content).hexdigest() == name
        assert Image.open(io.BytesIO(content)).size == (32, 32)
    recipes = {(call["start"], call["end"], "start_picture" in call) for call, _ in replica.render_calls}
    assert recipes == {("a giraffe", "a star", True), ("a star", "", False)}


async def test_a_picture_between_two_legs_is_rendered_once(settings, fleet):
    """An even walk in several rounds, and with a seed that is chosen, works on top of pictures."""
    replica = fleet.add(features=(*ABLE, "early_blend"))
    async with running(settings, fleet) as client:
        picture = await uploaded(client, scene())
        walk = await walked(client, "a star", {"picture": picture}, "a wave", spacing="even", seed="auto", frames=9)
    assert walk["state"] == "done", walk["error"]
    assert {call.get("blend", "embeddings") for call, _ in replica.render_calls} == {"embeddings"}, "no early blend"
    ends = [call["seed"] for call, fractions in replica.render_calls if 1.0 in fractions and "end_picture" in call]
    assert ends == [], "fraction 0 of the second leg is the picture"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"picture": "f" * 64}, "stops.1.picture"),
    ({"picture": "no id"}, "stops.1.picture"),
    ({"prompt": "a star"}, "stops.1.picture"),
    ({"picture": "MINE", "crop": {"x": 40, "y": 0, "width": 30, "height": 10}}, "stops.1.crop"),
    ({"picture": "MINE", "crop": {"x": 0, "y": 0, "width": 10**400, "height": 10}}, "stops.1.crop"),
    ({"picture": "MINE", "crop": {"x": 0, "y": 0, "width": 0, "height": 10}}, "stops.1.crop.width"),
    ({"picture": "MINE", "crop": {"x": -1, "y": 0, "width": 1, "height": 10}}, "stops.1.crop.x"),
    ({"picture": "MINE", "crop": {"x": True, "y": 0, "width": 1, "height": 10}}, "stops.1.crop.x"),
    ({"picture": "MINE", "crop": {"x": 0}}, "stops.1.crop.y"),
    ({"picture": "MINE", "prompt": "x" * 1001}, "stops.1.prompt"),
    ({"picture": "MINE", "prompt": "\0"}, "stops.1.prompt"),
    ({"picture": "MINE", "scale": 2}, "stops.1.scale"),
]


async def test_every_field_that_is_wrong_is_named_with_what_to_do(settings, fleet):
    """In one answer each, and nothing is started."""
    fleet.add(features=ABLE)
    async with running(settings, fleet) as client:
        mine = await uploaded(client, scene())
        for stop, field in BAD:
            stop = {name: mine if value == "MINE" else value for name, value in stop.items()}
            answer = await request(client, "a star", stop)
            assert answer.status_code == 422, stop
            [error, *_] = answer.json()["errors"]
            assert error["field"] == field, error
        for stop in (7, None, ["a star"], True):
            [error] = (await request(client, stop, "a star")).json()["errors"]
            assert error["field"] == "stops.0"
            assert "prompt, or an object" in error["detail"]
        for strength, picture in ((0.05, mine), (1.1, mine), (True, mine), (0.5, None)):
            stop = {"picture": picture} if picture else "a wave"
            [error] = (await request(client, "a star", stop, strength=strength)).json()["errors"]
            assert error["field"] == "strength", strength
        both = {"start": {"picture": "f" * 64}, "end": {"picture": mine, "crop": {**BAD[3][0]["crop"]}}}
        answer = await client.post(WALKS, json=both)
        assert [error["field"] for error in answer.json()["errors"]] == ["stops.0.picture", "stops.1.crop"]
        assert (await client.get("/api/v1/walk", params={"start": "a", "end": "b", "strength": "1"})).status_code == 422
        assert (await client.get(f"{WALKS}?owner=me")).json()["walks"] == []


async def test_a_picture_of_another_owner_is_no_picture(settings, fleet):
    """Whoever knows its hash could look at it otherwise."""
    fleet.add(features=ABLE)
    async with running(settings, fleet) as client:
        theirs = await uploaded(client, scene())
        client.cookies.clear()
        [error] = (await request(client, "a star", {"picture": theirs})).json()["errors"]
        assert error["field"] == "stops.1.picture"
        assert "upload it with POST /api/v1/pictures first" in error["detail"]
        assert await uploaded(client, scene()) == theirs
        assert (await request(client, "a star", {"picture": theirs})).status_code == 201


async def test_a_model_that_cannot_use_pictures_is_refused_and_says_which_can(settings):
    """The form of the gallery reads from the list of models whether it may offer pictures."""
    fleet = FakeFleet()
    fleet.add(card={**CARD, "model": "able"}, features=ABLE)
    fleet.add()
    settings = settings.model_copy(update={"model_card": None})
    async with running(settings, fleet) as client:
        picture = await uploaded(client, scene())
        offered: dict[str, bool] = {}
        while len(offered) < 2 or not any(offered.values()):
            models = (await client.get("/api/v1/models")).json()["models"]
            offered = {model["name"]: model["pictures"] for model in models}
        assert offered == {"able": True, "test-model": False}
        refused = await request(client, "a star", {"picture": picture}, model="test-model")
        assert refused.status_code == 422
        assert "use one of able" in refused.json()["detail"]
        assert (await walked(client, "a star", {"picture": picture}, model="able"))["state"] == "done"


async def test_replicas_without_the_feature_get_only_legs_between_prompts(settings, fleet):
    """While replicas are upgraded, both kinds render the same model."""
    old, new = fleet.add(), fleet.add(features=ABLE)
    async with running(settings, fleet) as client:
        picture = await uploaded(client, scene())
        walk = await walked(client, {"picture": picture}, "a star", "a wave", "a tree", frames=40)
    assert walk["state"] == "done", walk["error"]
    assert not any(old.pictures_sent)
    assert any(new.pictures_sent)
    assert old.render_calls, "legs between prompts"


async def test_a_walk_keeps_its_pictures_when_their_owner_deletes_them(settings, fleet):
    """It is requested again with the same pictures only after they are uploaded again, and is then the same walk."""
    fleet.add(features=ABLE)
    async with running(settings, fleet) as client:
        picture = await uploaded(client, scene())
        fleet.replicas["replica-1"].refusal = (422, "not now")
        walk = await walked(client, "a star", {"picture": picture})
        assert walk["state"] == "failed"
        fleet.replicas["replica-1"].refusal = None
        assert (await client.delete(f"/api/v1/pictures/{picture}")).status_code == 204
        assert len(list((Path(settings.bucket) / "uploads").iterdir())) == 1, "the walk uses it"
        assert (await request(client, "a star", {"picture": picture})).status_code == 422
        assert await uploaded(client, scene()) == picture
        again = await walked(client, "a star", {"picture": picture})
    assert (again["id"], again["state"]) == (walk["id"], "done")


async def test_a_walk_whose_picture_is_lost_fails_with_what_to_do(settings, fleet):
    """It must not be tried for ever."""
    fleet.add(features=ABLE)
    async with running(settings, fleet) as client:
        picture = await uploaded(client, scene())
        for file in (Path(settings.bucket) / "uploads").iterdir():
            file.unlink()
        walk = await walked(client, "a star", {"picture": picture})
    assert walk["state"] == "failed"
    assert "Upload it again" in walk["error"]


async def test_a_picture_that_a_walk_uses_does_not_expire(url, tmp_path):
    """It is locked when the walk is accepted: from then on, it is kept as long as the walk."""
    bucket = FolderBucket(tmp_path / "bucket")
    async with opened(url) as engine:
        catalogue, store = Catalogue(engine), PictureStore(engine, bucket, timedelta(hours=1))
        (tmp_path / "picture.png").write_bytes(encoded(scene(), "PNG"))
        identities = ["a" * 63 + digit for digit in "12"]
        kept, expired = [await store.add("me", one, 64, 48, tmp_path / "picture.png") for one in identities]
        crop = {"x": 0, "y": 0, "width": 48, "height": 48}
        walks = [spec(stops=("a star", {"picture": one, "crop": crop}), strength=0.8, seed=7) for one in identities]
        await catalogue.request(walks[0], "me")
        async with engine.begin() as connection:
            past = kept.created_at.replace(year=2020)
            await connection.execute(update(pictures).where(pictures.c.owner == "me").values(expires_at=past))
        with pytest.raises(Invalid, match="Upload it again"):
            await catalogue.request(walks[1], "me")
        with pytest.raises(Invalid, match="Upload it again"):
            await catalogue.request(walks[0], "another owner")
        await store.delete_expired()
        assert await store.sizes("me", identities) == {identities[0]: (64, 48)}
        assert list((await catalogue.keys_of_pictures(walks[0].id)).values()) == [kept.key]
        assert not (tmp_path / "bucket" / expired.key).exists()
        async with engine.connect() as connection:
            uses = (await connection.scalars(select(picture_uses.c.walk_id))).all()
        assert uses == [walks[0].id]
        await catalogue.remove(walks[0].id)
    await bucket.aclose()


def test_a_part_of_a_picture_is_scaled_to_the_size_of_the_frames():
    """Exactly, in RGB, whatever its shape was."""
    picture = scene(64, 48)
    part = Image.open(io.BytesIO(scaled(encoded(picture, "PNG"), (32, 0, 64, 24), (16, 8))))
    assert (part.size, part.mode, part.format) == ((16, 8), "RGB", "PNG")
    assert part.getcolors() == [(128, (0, 255, 0))], "the green quarter"


async def test_a_walk_of_a_picture_is_private_and_says_that_a_picture_went_in(settings, fleet, tmp_path):
    """Nobody has to ask for it. Frames between two prompts of the same walk are the model's alone."""
    fleet.add(features=ABLE)
    async with running(settings, fleet) as client:
        mine = {"picture": await uploaded(client, scene())}
        walk = await walked(client, mine, "a star", "a wave", frames=7)
        assert walk["private"] is True
        files = [tmp_path / name for name in ("walk.gif", "0.png", "1.png", "5.png")]
        for file in files:
            url = file.name if file.suffix == ".gif" else f"frames/{file.name}"
            file.write_bytes((await client.get(f"{walk['url']}/{url}")).content)
        client.cookies = {}
        assert (await client.get(walk["url"])).status_code == 404
    said = [tags["XMP-iptcExt:DigitalSourceType"].rpartition("/")[2] for tags in exiftool.read(files, "XMP:all")]
    assert said == ["compositeWithTrainedAlgorithmicMedia"] * 3 + ["trainedAlgorithmicMedia"]
