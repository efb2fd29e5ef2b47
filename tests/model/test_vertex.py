"""The api's client for Vertex AI against the model service's own predictions: a real replica, used as an endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from momalisa_api.fleet import vertex
from momalisa_api.fleet.replica import Replica, ReplicaBusy, ReplicaLost, ReplicaUnavailable, ReplicaUnfit
from momalisa_api.fleet.wire import NO_PICTURES, Head, Pictures, RenderedFrame
from momalisa_api.problems import WalkFailed
from momalisa_api.settings import Settings as ApiSettings
from momalisa_api.walks.between import BetweenRecipe
from momalisa_api.walks.fingerprints import UNKNOWN
from momalisa_api.walks.model_card import ModelCard
from momalisa_model.settings import Settings
from tests.support.factories import CARD
from tests.support.model_server import Server, recipe_for
from tests.support.pictures import encoded, landscape

pytestmark = [pytest.mark.anyio]
ENDPOINT = "/v1/projects/p/locations/l/endpoints/7"
FRACTIONS = (0.0, 0.25, 0.5, 1.0)


@pytest.fixture(scope="module")
def platform(settings_for: Callable[..., Settings]) -> Iterator[Server]:
    with Server(settings_for("plain", predict_route=f"{ENDPOINT}:predict")) as running:
        yield running


async def token() -> str:
    return "a token"


@asynccontextmanager
async def connected(
    server: Server, *, max_answer_bytes: int = vertex.MAX_ANSWER_BYTES, **options: Any
) -> AsyncIterator[tuple[vertex.VertexReplica, Replica]]:
    """The same replica twice: as an endpoint and as itself."""
    card = None
    async with httpx.AsyncClient(timeout=60, **options) as client:
        url = f"vertex+{server.url}{ENDPOINT}#1"
        endpoint = vertex.VertexReplica(url, client, card, token, max_answer_bytes=max_answer_bytes)
        yield endpoint, Replica(server.url, client)


def recipe_of(server: Server, **changes: Any) -> BetweenRecipe:
    recipe = recipe_for(server.ready, **changes)
    return BetweenRecipe.model_validate({"steps": recipe.pop("num_inference_steps"), **recipe})


async def rendered_by(
    replica: Replica, recipe: BetweenRecipe, pictures: Pictures = NO_PICTURES
) -> tuple[Head, list[RenderedFrame]]:
    head, *frames = [line async for line in replica.render(recipe, FRACTIONS, pictures)]
    assert isinstance(head, Head)
    return head, [frame for frame in frames if isinstance(frame, RenderedFrame)]


async def test_an_endpoint_gets_pictures_like_a_replica(platform):
    """With every call, as each may be another replica's; the frames are the same, and the ends are the pictures."""
    size = {"width": 32, "height": 32}
    crop = {"x": 0, "y": 0, **size}
    named = {
        side: {"picture": digit * 64, "crop": crop} for side, digit in (("start_picture", "a"), ("end_picture", "b"))
    }
    recipe = recipe_of(platform, **size, **named, start="", strength=0.8)
    originals = [landscape(32, 32, seed) for seed in (1, 2)]
    pictures = dict(zip(recipe.pictures, (encoded(original, "PNG") for original in originals), strict=True))
    few = 2 * 32 * 32 * vertex.BYTES_PER_PIXEL
    async with connected(platform, max_answer_bytes=few) as (endpoint, replica):
        [model] = await endpoint.models()
        assert model.can_render(recipe)
        _, streamed = await rendered_by(replica, recipe, pictures)
        _, packed = await rendered_by(endpoint, recipe, pictures)
    assert [frame.png for frame in streamed] == [frame.png for frame in packed]
    assert len({frame.png for frame in streamed}) == len(FRACTIONS)


async def test_an_endpoint_returns_the_frames_of_a_replica(platform):
    """Also if the limit of an answer's size requires several calls."""
    recipe = recipe_of(platform)
    async with connected(platform) as (endpoint, replica):
        assert await endpoint.models()
        _, streamed = await rendered_by(replica, recipe)
        _, whole = await rendered_by(endpoint, recipe)
    max_answer_bytes = 3 * recipe.width * recipe.height * vertex.BYTES_PER_PIXEL
    async with connected(platform, max_answer_bytes=max_answer_bytes) as (endpoint, _):
        _, packed = await rendered_by(endpoint, recipe)
    pictures = [(frame.fraction, frame.png) for frame in streamed]
    assert [frame[0] for frame in pictures] == list(FRACTIONS)
    assert pictures == [(frame.fraction, frame.png) for frame in whole]
    assert pictures == [(frame.fraction, frame.png) for frame in packed]


async def test_other_weights_and_invalid_recipes_are_different_errors(platform):
    """Another replica may have the weights; no replica can render the recipe."""
    async with connected(platform) as (endpoint, _):
        with pytest.raises(ReplicaLost, match="409"):
            await rendered_by(endpoint, recipe_of(platform, revision="another"))
        with pytest.raises(WalkFailed, match="width"):
            await rendered_by(endpoint, recipe_of(platform, width=57))


async def test_an_endpoint_tells_its_models_now_and_then(platform):
    """Nobody has to write a card file for it, and an endpoint has several calls that each count as a replica."""
    calls = 0

    async def counted() -> str:
        nonlocal calls
        calls += 1
        return await token()

    async with connected(platform) as (endpoint, replica):
        [told], [direct] = await endpoint.models(), await replica.models()
        assert (told.card, told.features, told.fingerprint) == (direct.card, direct.features, UNKNOWN)
        endpoint._token = counted
        assert await endpoint.models() == (told,)
        assert calls == 1, "a token is checked, and the endpoint is not asked again"


@pytest.mark.parametrize("card", [None, CARD])
async def test_an_endpoint_of_the_last_release_needs_a_card_file(platform, card):
    """It refuses the question for its models as an invalid instance."""
    refuses = httpx.MockTransport(lambda _: httpx.Response(422, json={"detail": "instances.0.recipe is missing"}))
    read = card and ModelCard.model_validate(card)
    async with httpx.AsyncClient(transport=refuses) as client:
        endpoint = vertex.VertexReplica(f"vertex+{platform.url}{ENDPOINT}", client, read, token)
        if read:
            assert [model.card for model in await endpoint.models()] == [read]
        else:
            with pytest.raises(ReplicaUnfit, match=r"does not tell its models: .*recipe is missing"):
                await endpoint.models()


@pytest.mark.parametrize(
    ("status", "expected"),
    [(429, ReplicaBusy), (503, ReplicaBusy), (403, ReplicaUnavailable), (500, ReplicaLost), (200, ReplicaLost)],
)
async def test_googles_own_errors_are_understood(platform, status, expected):
    """Quotas cause a pause; missing rights do not fail the walk; an answer without frames is a lost call."""
    received: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        received.append(request)
        return httpx.Response(status, json={"predictions": []} if status == 200 else {"error": {"message": "no"}})

    async with connected(platform, transport=httpx.MockTransport(answer)) as (endpoint, _):
        with pytest.raises(expected):
            await rendered_by(endpoint, recipe_of(platform))
    assert received[0].headers["authorization"] == "Bearer a token"
    assert str(received[0].url).endswith("/endpoints/7:predict")


async def test_without_an_account_an_endpoint_is_not_fit(platform, monkeypatch, tmp_path):
    """Walks wait until there is an account."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    async with connected(platform) as (connected_endpoint, _):
        endpoint = vertex.VertexReplica(connected_endpoint.url, httpx.AsyncClient(), None, vertex.GoogleToken())
        with pytest.raises(ReplicaUnfit):
            await endpoint.models()


def test_an_address_may_set_the_number_of_concurrent_calls(monkeypatch):
    """The number after # makes the endpoint count as so many replicas."""
    address = f"vertex+https://7.europe-west4-1.prediction.vertexai.goog{ENDPOINT}"
    assert list(vertex.concurrent_urls(address)) == [f"{address}#0"]
    assert list(vertex.concurrent_urls(f"{address}#3")) == [f"{address}#{call}" for call in range(3)]
    monkeypatch.setenv("MOMALISA_MODEL_CARD", "card.json")
    assert ApiSettings(replicas=f"{address}#3").replicas == f"{address}#3"
    for wrong in (f"{address}#0", f"{address}#many", "vertex+ftp://nowhere"):
        with pytest.raises(ValueError, match="not a replica address"):
            ApiSettings(replicas=wrong)
