"""The api's half of Vertex AI's contract held against the model's own: a real replica, dialled as an endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from momalisa_api.fleet import vertex
from momalisa_api.fleet.replica import Replica, ReplicaBusy, ReplicaLost, ReplicaUnavailable
from momalisa_api.fleet.wire import Head, RenderedFrame
from momalisa_api.problems import WalkFailed
from momalisa_api.settings import Settings as ApiSettings
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.spec import Recipe
from momalisa_model.settings import Settings
from tests.support.model_server import Server, recipe_for

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
async def dialled(
    server: Server, *, max_answer_bytes: int = vertex.MAX_ANSWER_BYTES, **options: Any
) -> AsyncIterator[tuple[vertex.VertexReplica, Replica]]:
    """The same replica, as an endpoint and as itself."""
    card = ModelCard.model_validate_json(server.ready.answer.card.model_dump_json())
    async with httpx.AsyncClient(timeout=60, **options) as client:
        endpoint = vertex.VertexReplica(
            f"vertex+{server.url}{ENDPOINT}#1", client, card, token, max_answer_bytes=max_answer_bytes
        )
        yield endpoint, Replica(server.url, client, card)


def recipe_of(server: Server, **changes: Any) -> Recipe:
    asked = recipe_for(server.ready, **changes)
    return Recipe.model_validate({"steps": asked.pop("num_inference_steps"), **asked})


async def heard(replica: Replica, recipe: Recipe) -> tuple[Head, list[RenderedFrame]]:
    head, *frames = [line async for line in replica.render(recipe, FRACTIONS)]
    assert isinstance(head, Head)
    return head, [frame for frame in frames if isinstance(frame, RenderedFrame)]


async def test_an_endpoint_gives_the_frames_that_a_replica_gives(platform):
    """Also where an answer's bound takes several calls."""
    recipe = recipe_of(platform)
    async with dialled(platform) as (endpoint, replica):
        assert await endpoint.is_fit()
        _, streamed = await heard(replica, recipe)
        _, whole = await heard(endpoint, recipe)
    three_frames = 3 * recipe.width * recipe.height * vertex.BYTES_PER_PIXEL
    async with dialled(platform, max_answer_bytes=three_frames) as (endpoint, _):
        _, packed = await heard(endpoint, recipe)
    pictures = [(frame.fraction, frame.png) for frame in streamed]
    assert [frame[0] for frame in pictures] == list(FRACTIONS)
    assert pictures == [(frame.fraction, frame.png) for frame in whole]
    assert pictures == [(frame.fraction, frame.png) for frame in packed]


async def test_other_weights_and_bad_recipes_are_told_apart(platform):
    """One is for another replica, the other for nobody."""
    async with dialled(platform) as (endpoint, _):
        with pytest.raises(ReplicaUnavailable):
            await heard(endpoint, recipe_of(platform, revision="another"))
        with pytest.raises(WalkFailed, match="width"):
            await heard(endpoint, recipe_of(platform, width=57))


@pytest.mark.parametrize(
    ("status", "meant"),
    [(429, ReplicaBusy), (503, ReplicaBusy), (403, ReplicaUnavailable), (500, ReplicaLost), (200, ReplicaLost)],
)
async def test_googles_door_is_understood(platform, status, meant):
    """Quotas pause, missing rights are nobody's walk's fault, an answer without frames is a loss."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status, json={"predictions": []} if status == 200 else {"error": {"message": "no"}})

    async with dialled(platform, transport=httpx.MockTransport(answer)) as (endpoint, _):
        with pytest.raises(meant):
            await heard(endpoint, recipe_of(platform))
    assert asked[0].headers["authorization"] == "Bearer a token"
    assert str(asked[0].url).endswith("/endpoints/7:predict")


async def test_without_an_account_an_endpoint_is_not_fit(platform, monkeypatch, tmp_path):
    """It says so, and walks wait."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    async with dialled(platform) as (known, _):
        endpoint = vertex.VertexReplica(known.url, httpx.AsyncClient(), known._card, vertex.GoogleToken())
        assert not await endpoint.is_fit()


def test_an_address_says_how_many_calls_at_a_time(monkeypatch):
    address = f"vertex+https://7.europe-west4-1.prediction.vertexai.goog{ENDPOINT}"
    assert list(vertex.concurrent_urls(address)) == [f"{address}#0"]
    assert list(vertex.concurrent_urls(f"{address}#3")) == [f"{address}#{call}" for call in range(3)]
    monkeypatch.setenv("MOMALISA_MODEL_CARD", "card.json")
    assert ApiSettings(replicas=f"{address}#3").replicas == f"{address}#3"
    for wrong in (f"{address}#0", f"{address}#many", "vertex+ftp://nowhere"):
        with pytest.raises(ValueError, match="is not a replica address"):
            ApiSettings(replicas=wrong)
