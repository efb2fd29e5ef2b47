"""Requests for walks of the other kinds, from the body to the frames, with fake replicas."""

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import httpx
import pytest
from PIL import Image

from momalisa_api.problems import Invalid
from momalisa_api.settings import Settings
from momalisa_api.store.clips import StoredClip
from momalisa_api.walks.kinds import KINDS
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.models import Models, Needs, RegisteredModel
from momalisa_api.web.kind_request import ClipRequest
from momalisa_api.web.kind_spec import Uploads, complete_kind
from tests.support.factories import CARD, FakeFleet, ended, running
from tests.support.kinds import STORED_CLIP, card_of
from tests.support.pictures import encoded, scene

pytestmark = pytest.mark.anyio
WALKS = "/api/v1/walks"
GLASS = {"name": "glass", "title": "Glass"}
PRESET = {"name": "woodcut", "title": "Woodcut", "prompt": " a woodcut ", "strength": 0.8}
RESTYLING = ("restyle", "clip")
CROP = {"x": 16, "y": 0, "width": 32, "height": 16}


def fleet_of(*kinds: str) -> FakeFleet:
    """A fleet with a model for each of some kinds of walks, and one of diffusion."""
    fleet = FakeFleet()
    fleet.add(
        card={**CARD, "styles": [PRESET]}, features=("pictures", *RESTYLING) if "restyle" in kinds else ("pictures",)
    )
    if "into" in kinds:
        fleet.add(card=card_of("depth", "parallax"), features=("into",))
    if "restyle" in kinds:
        fleet.add(card=card_of("styles", "style", GLASS), features=RESTYLING)
    if "apart" in kinds:
        fleet.add(card=card_of("instances", "instances"), features=("apart",))
    return fleet


@asynccontextmanager
async def deployed(settings: Settings, *kinds: str) -> AsyncIterator[tuple[httpx.AsyncClient, FakeFleet, str]]:
    """A client of an API whose models are all known, its fleet, and the id of an uploaded picture of 64 x 48 pixels."""
    fleet = fleet_of(*kinds)
    async with running(settings.model_copy(update={"model_card": None}), fleet) as client:
        told: set[str] = set()
        with anyio.fail_after(20):
            # `between` is known from the card; `pictures` once that replica has told what it renders.
            while not told >= {"pictures", *kinds}:
                models = (await client.get("/api/v1/models")).json()["models"]
                told = {kind for model in models for kind in model["kinds"]}
                told |= {"pictures"} if any(model["pictures"] for model in models) else set()
        answer = await client.post("/api/v1/pictures", content=encoded(scene(), "PNG"))
        yield client, fleet, answer.json()["id"]


async def test_a_picture_becomes_a_walk_of_each_kind(settings):
    """What is omitted comes from the card of the first model that has the kind; its frames have the picture's shape."""
    async with deployed(settings, "into", "restyle", "apart") as (client, fleet, mine):
        walks = {}
        for body in (
            {"kind": "into", "frames": 3},
            {"kind": "apart", "frames": 2, "threshold": 0.3},
            {"kind": "restyle", "style": "glass", "frames": 2},
            {"kind": "restyle", "style_picture": {"picture": mine, "crop": CROP}, "frames": 2},
            {"kind": "restyle", "style": "woodcut", "frames": 2, "seed": 3},
            {"kind": "restyle", "prompt": " a star ", "frames": 2},
        ):
            answer = await client.post(WALKS, json={"picture": {"picture": mine}, **body})
            assert answer.status_code == 201, answer.text
            walk = await ended(client, answer.json())
            assert (walk["state"], walk["kind"], walk["private"]) == ("done", body["kind"], True), walk["error"]
            assert walk["frames_ready"] == list(range(body["frames"]))
            frame = await client.get(f"{walk['url']}/frames/0.png")
            assert Image.open(io.BytesIO(frame.content)).size == (32, 24)
            walks[json.dumps(body)] = walk
        into, apart, glass, like, woodcut, star = (walk["spec"] for walk in walks.values())
        page = (await client.get(f"{WALKS}?owner=me&q=picture")).json()["walks"]
        assert {walk["kind"] for walk in page} == {"into", "apart", "restyle"}
    whole = {"picture": mine, "crop": {"x": 0, "y": 0, "width": 64, "height": 48}}
    assert into == {
        "kind": "into",
        "picture": whole,
        "motion": "sway",
        "amplitude": 0.5,
        **{"width": 32, "height": 24, "model": "depth", "revision": "1"},
        **{"frames": 3, "frame_ms": 40, "gif_there_and_back": False, "mp4_there_and_back": False},
    }
    assert (apart["model"], apart["threshold"], apart["most"], apart["frame_ms"]) == ("instances", 0.3, 20, 200)
    assert (glass["model"], glass["style"], glass["prompt"], glass["seed"]) == ("styles", "glass", None, None)
    assert (like["model"], like["style_picture"]) == ("styles", {"picture": mine, "crop": CROP})
    assert (woodcut["model"], woodcut["style"]) == ("test-model", None), "a preset is data: the spec has its prompt"
    assert (woodcut["prompt"], woodcut["strength"], woodcut["seed"], woodcut["steps"]) == ("a woodcut", 0.8, 3, 4)
    assert (star["prompt"], star["strength"], star["seed"], star["gif_there_and_back"]) == ("a star", 0.6, 0, True)
    assert walks[next(iter(walks))]["seed"] is None, "it has no noise"
    depth, styles = fleet.replicas["replica-2"], fleet.replicas["replica-3"]
    assert {recipe["kind"] for recipe, _ in depth.render_calls} == {"into"}
    assert {len(files) for files in styles.pictures_sent} == {1, 2}


OF_MINE: dict[str, Any] = {"picture": {"picture": "MINE"}}
BAD: list[tuple[dict[str, Any], list[str]]] = [
    ({"kind": "sideways"}, ["kind"]),
    ({"kind": None}, ["kind"]),
    ({"kind": ["into"]}, ["kind"]),
    ({"kind": "into"}, ["picture"]),
    ({"kind": "into", "picture": "MINE"}, ["picture"]),
    ({"kind": "into", "picture": {}}, ["picture.picture"]),
    ({"kind": "into", "picture": {"picture": "f" * 64}}, ["picture.picture"]),
    ({"kind": "into", "picture": {"picture": "MINE", "prompt": "a star"}}, ["picture.prompt"]),
    ({"kind": "into", "picture": {"picture": "MINE", "crop": {**CROP, "x": 33}}}, ["picture.crop"]),
    ({"kind": "into", "picture": {"picture": "MINE", "crop": {**CROP, "width": 0}}}, ["picture.crop.width"]),
    ({"kind": "into", "motion": "jump", "amplitude": 2}, ["picture", "motion", "amplitude"]),
    ({"kind": "into", "picture": {"picture": "f" * 64}, "size": 513}, ["picture.picture", "size"]),
    ({"kind": "into", **OF_MINE, "size": 10**300}, ["size"]),
    ({"kind": "into", **OF_MINE, "size": True}, ["size"]),
    ({"kind": "into", **OF_MINE, "amplitude": "NaN"}, ["amplitude"]),
    ({"kind": "into", **OF_MINE, "frames": 1}, ["frames"]),
    ({"kind": "into", **OF_MINE, "frames": 242}, ["frames"]),
    ({"kind": "into", **OF_MINE, "frame_ms": 10}, ["frame_ms"]),
    ({"kind": "into", **OF_MINE, "stops": ["a", "b"]}, ["stops"]),
    ({"kind": "into", **OF_MINE, "model": "test-model"}, ["model"]),
    ({"kind": "into", **OF_MINE, "model": "unknown"}, ["model"]),
    ({"kind": "restyle", **OF_MINE}, ["request"]),
    ({"kind": "restyle", **OF_MINE, "style": "glass", "prompt": "a star"}, ["request"]),
    ({"kind": "restyle", **OF_MINE, "style": "Glass!"}, ["style"]),
    ({"kind": "restyle", **OF_MINE, "style": "unknown"}, ["style"]),
    ({"kind": "restyle", **OF_MINE, "style": "glass", "model": "test-model"}, ["style"]),
    ({"kind": "restyle", **OF_MINE, "prompt": "a star", "model": "styles"}, ["model"]),
    ({"kind": "restyle", **OF_MINE, "style": "glass", "seed": 0, "steps": 1}, ["seed", "steps"]),
    ({"kind": "restyle", **OF_MINE, "prompt": " ", "steps": 99}, ["prompt", "steps"]),
    ({"kind": "restyle", **OF_MINE, "prompt": "x" * 1001}, ["prompt"]),
    ({"kind": "restyle", **OF_MINE, "prompt": "\0"}, ["prompt"]),
    (
        {"kind": "restyle", **OF_MINE, "style_picture": {"picture": "f" * 64}},
        ["style_picture.picture"],
    ),
    ({"kind": "clip", "clip": "ef" * 32, "style": "glass"}, ["clip"]),
    ({"kind": "clip", "clip": "x", "style": "glass"}, ["clip"]),
    ({"kind": "clip", "clip": "ef" * 32, "style": "glass", "frames": 9}, ["frames"]),
    (
        {"kind": "clip", "clip": "ef" * 32, "style": "woodcut", "size": 8, "negative_prompt": "x" * 1001},
        ["clip", "negative_prompt", "size"],
    ),
    ({"kind": "apart", **OF_MINE, "most": 0, "threshold": 0.99}, ["threshold", "most"]),
    ({"kind": "between"}, ["request"]),
    ({"kind": "between", "start": "a", "end": "b", **OF_MINE}, ["picture"]),
    ({"kind": "between", "start": "a", "end": "b", "model": "styles"}, ["model"]),
]


def with_id(value: Any, mine: str) -> Any:
    """A body in which MINE stands for an uploaded picture's id."""
    return json.loads(json.dumps(value).replace("MINE", mine))


async def test_every_invalid_field_is_named_and_only_those_of_the_kind(settings):
    """A union's own errors would name the fields of all five kinds for each mistake. Nothing invalid makes a walk."""
    async with deployed(settings, "into", "restyle", "apart") as (client, _, mine):
        for body, fields in BAD:
            answer = await client.post(WALKS, json=with_id(body, mine))
            assert answer.status_code == 422, body
            problem = answer.json()
            assert [error["field"] for error in problem["errors"]] == fields, (body, problem)
            assert "kind " not in "".join(error["field"] for error in problem["errors"])
        content = f'{{"kind": "into", "picture": {{"picture": "{mine}"}}, "amplitude": NaN}}'
        nan = await client.post(WALKS, content=content, headers={"Content-Type": "application/json"})
        assert [error["field"] for error in nan.json()["errors"]] == ["amplitude"]
        for nothing in (b"[]", b"7", b'"into"', b"null"):
            [error] = (await client.post(WALKS, content=nothing)).json()["errors"]
            assert error["field"] == "request", nothing
        assert (await client.get(f"{WALKS}?owner=me")).json()["walks"] == []


async def test_a_kind_that_no_model_has_is_refused_with_the_model_that_it_needs(settings):
    """Operators read it, too. Walks between stops are possible."""
    async with deployed(settings) as (client, _, mine):
        for body, field, words in (
            ({"kind": "into"}, "kind", "it needs a model of depth, such as depth-anything-v2-small"),
            ({"kind": "apart"}, "kind", "it needs a model of instances"),
            ({"kind": "restyle", "style": "glass"}, "kind", "it needs a model of styles"),
            ({"kind": "restyle", "prompt": "a star", "model": "test-model"}, "model", "cannot render this walk"),
        ):
            answer = await client.post(WALKS, json={"picture": {"picture": mine}, **body})
            [error] = answer.json()["errors"]
            assert (answer.status_code, error["field"]) == (422, field)
            assert words in error["detail"]
        assert (await client.post(WALKS, json={"start": "a", "end": "b", "kind": "between"})).status_code == 201


async def test_a_model_of_another_engine_is_never_the_default(settings):
    """It may have been registered first, or chosen by an operator."""
    fleet = FakeFleet()
    fleet.add(card=card_of("depth", "parallax"), features=("into",))
    async with running(settings.model_copy(update={"model_card": None}), fleet) as client:
        answer = httpx.Response(503)
        with anyio.fail_after(20):
            while answer.status_code == 503:
                answer = await client.post(WALKS, json={"start": "a", "end": "b"})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "kind")
        assert "a diffusion model" in answer.json()["detail"]
        [model] = (await client.get("/api/v1/models")).json()["models"]
        assert (model["engine"], model["kinds"], model["default"]) == ("parallax", ["into"], False)


def clip_spec(clip: StoredClip | None, limit: int = 900, **options: Any) -> Any:
    request = ClipRequest.model_validate({"kind": "clip", "clip": STORED_CLIP.id, "style": "glass", **options})
    card = ModelCard.model_validate(card_of("styles", "style", GLASS))
    return complete_kind(request, card, Settings(max_clip_frames=limit, _env_file=None), Uploads({}, clip))


def test_a_walk_along_a_clip_has_its_frames_its_shape_and_its_time():
    """Or every n-th frame, if there are too many. Each is shown as long as n of the clip's."""
    whole, third = clip_spec(STORED_CLIP, size=480), clip_spec(STORED_CLIP, limit=100)
    assert (whole.frames, whole.every, whole.frame_ms, whole.width, whole.height) == (250, 1, 40, 480, 270)
    assert (third.frames, third.every, third.frame_ms) == (84, 3, 119)
    assert clip_spec(replace(STORED_CLIP, frames=2, seconds=1000.0)).frame_ms == 2000
    assert clip_spec(replace(STORED_CLIP, frames=3), limit=2).frames == 2
    for frames in range(2, 40):
        spec = clip_spec(replace(STORED_CLIP, frames=frames), limit=7)
        assert 2 <= spec.frames <= 7
        assert (spec.frames - 1) * spec.every < frames, "its last frame is one of the clip"


def test_a_style_that_two_models_have_is_that_of_the_model_made_for_styles():
    """A diffusion model that comes first keeps less of what the picture shows. It can still be named."""
    diffusion = ModelCard.model_validate({**CARD, "styles": [{**PRESET, "name": "glass"}]})
    styles = ModelCard.model_validate(card_of("styles", "style", GLASS))
    models = Models(RegisteredModel(card, features=frozenset(RESTYLING)) for card in (diffusion, styles))
    assert models.choose(needs=Needs("restyle", "glass")).name == "styles"
    assert models.choose(CARD["model"], Needs("restyle", "glass")).name == CARD["model"]
    assert models.choose(needs=Needs("restyle")).name == CARD["model"]


def test_a_clip_of_one_frame_is_refused_and_the_sentence_says_what_to_do():
    with pytest.raises(Invalid, match="restyle the picture"):
        clip_spec(replace(STORED_CLIP, frames=1))


def test_kinds_are_named_in_the_order_of_the_gallery():
    assert KINDS == ("between", "into", "restyle", "clip", "apart")
