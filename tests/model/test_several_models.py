"""One replica with several models: each recipe gets its own, and they take turns on one device."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from momalisa_model.lifecycle import LoadedModel
from momalisa_model.settings import Settings
from tests.support.model_server import Server, recipe_for, wait_until
from tests.support.recipes import write_recipe


@pytest.fixture(scope="module")
def settings_with(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Settings]:
    """Settings of a replica with a recipe for each of these models, named after them."""
    folder = tmp_path_factory.mktemp("recipes")

    def settings(*names: str, **more: object) -> Settings:
        files = [write_recipe(folder, name, models.get(name, folder / name)) for name in names]
        recipes = " ".join(map(str, files))
        return Settings(**{"recipes": recipes, "device": "cpu", "threads": 1, "port": 0, **more})

    return settings


@pytest.fixture(scope="module")
def both(settings_with: Callable[..., Settings]) -> Iterator[Server]:
    with Server(settings_with("plain", "wide", predict_route="/predict")) as running:
        yield running


def frames_of(answer: httpx.Response) -> tuple[dict, list[str]]:
    assert answer.status_code == 200, answer.text
    head, *frames = [json.loads(line) for line in answer.text.splitlines()]
    return head, [frame["png"] for frame in frames]


def render(server: Server, loaded: LoadedModel, **changes: object) -> httpx.Response:
    body = {"recipe": recipe_for(loaded, **changes), "fractions": [0.0, 0.5, 1.0]}
    return httpx.post(server.url + "/v1/render", json=body, timeout=60)


def test_all_models_describe_themselves(both, loaded_model):
    """With the fingerprint that a replica with this model alone has: its frames are the same bytes."""
    models = both.get("/v1/models").json()["models"]
    assert [model["card"]["model"] for model in models] == ["plain", "wide"]
    assert [model["fingerprint"] for model in models] == [
        loaded_model(name).answer.fingerprint for name in ("plain", "wide")
    ]
    assert both.get("/v1/model").json() == models[0], "callers of the last release know one model only"


def test_a_recipe_is_rendered_by_the_model_that_it_names(both, loaded_model, server):
    """The same bytes as from a replica with this model alone; in turns, none leaves anything behind."""
    plain, wide = both.app.state.replica.ready()
    first, alone = (frames_of(render(one, plain)) for one in (both, server))
    assert first[1] == alone[1]
    head, other = frames_of(render(both, wide))
    assert (head["model"], head["fingerprint"]) == ("wide", loaded_model("wide").answer.fingerprint)
    assert frames_of(render(both, plain)) == first
    assert frames_of(render(both, wide))[1] == other != first[1]


def test_each_model_has_its_own_limits(both):
    """The sizes of one are not those of the other."""
    plain, wide = both.app.state.replica.ready()
    answers = {model.card.model: render(both, model, width=24, height=24).status_code for model in (plain, wide)}
    assert answers == {"plain": 200, "wide": 422}


def test_a_model_that_is_not_loaded_gets_the_names_of_those_that_are(both):
    """The revision of a model with this name says most: its weights were changed."""
    wide = both.app.state.replica.ready()[1]
    for changes in ({"revision": "f" * 40}, {"model": "other"}):
        problem = render(both, wide, **changes).json()
        assert problem["type"] == "urn:momalisa:problem:wrong-model"
        assert all(name in problem["detail"] for name in ("plain at", "wide at", "are loaded"))
        named = "wide" if "revision" in changes else "plain"
        assert problem["model"] == named


def test_predictions_may_name_both_models(both):
    """One call of a platform, two models, in the order of the instances."""
    plain, wide = both.app.state.replica.ready()
    order = (plain, plain, wide, plain)
    instances = [{"recipe": recipe_for(model), "fraction": 0.5} for model in order]
    answer = httpx.post(both.url + "/predict", json={"instances": instances}, timeout=60)
    pictures = [frame["png"] for frame in answer.json()["predictions"]]
    assert pictures[0] == pictures[1] == pictures[3] == frames_of(render(both, plain))[1][1]
    assert pictures[2] == frames_of(render(both, wide))[1][1]


def test_frames_are_counted_for_each_model(both):
    """Operators see which model is in use."""
    wide = both.app.state.replica.ready()[1]
    before = [both.metric("frames_total", model=name) for name in ("plain", "wide")]
    render(both, wide)
    after = [both.metric("frames_total", model=name) for name in ("plain", "wide")]
    assert [after[0] - before[0], after[1] - before[1]] == [0, 3]
    assert both.metric("batch_invariant", model="plain") == both.metric("batch_invariant", model="wide") == 1


def test_a_failure_tests_all_models_before_the_device_is_trusted(both):
    """One failed shard of one model may mean a broken device, which the other model would meet next."""
    plain, wide = both.app.state.replica.ready()
    errors, passes = iter([RuntimeError("once")]), []

    def fail(*_: object) -> None:
        if error := next(errors, None):
            raise error

    hooks = [
        plain.engine.sampler.weights.pipeline.unet.register_forward_pre_hook(fail),
        wide.engine.sampler.weights.pipeline.unet.register_forward_pre_hook(lambda *_: passes.append(1)),
    ]
    try:
        assert render(both, plain).status_code == 500
    finally:
        for hook in hooks:
            hook.remove()
    assert passes
    assert render(both, plain).status_code == 200


def test_a_model_that_cannot_be_loaded_keeps_the_replica_unready_with_its_name(settings_with):
    """A replica with one of its models would get walks of the other, and refuse them."""
    with Server(settings_with("plain", "nowhere"), ready=False) as server:
        wait_until(lambda: "being loaded" not in server.get("/readyz").text)
        for path in ("/readyz", "/v1/models", "/v1/model"):
            assert server.get(path).status_code == 503
        assert server.get("/readyz").json()["detail"].startswith("nowhere: ")
        assert server.metric("ready") == 0
