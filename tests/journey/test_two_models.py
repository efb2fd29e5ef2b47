"""Two models on three replicas, one of which holds both, and a third model that comes later."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.client import TLS, Client
from tests.support.processes import SCRIPTS, Service, wait_until
from tests.support.proxy import Proxy
from tests.support.small_families import small_family
from tests.support.takeovers import new_request

SMALL, LATER = "small-sdxl", "later-sdxl"
HOLDS = {"first": ("atelier",), "second": (SMALL,), "both": ("atelier", SMALL), "later": (LATER,)}
SIZES = {"width": 64, "height": 64, "min_size": 32, "max_size": 128, "num_inference_steps": 2, "micro_batch": 3}


class TwoModels(Client):
    """The API as one process, and replicas with a recording proxy each, by name; `later` is not started."""

    def __init__(self, folder: Path, recipes: dict[str, str]) -> None:
        self.replicas, self.proxies = {}, {}
        for name, models in HOLDS.items():
            own = {"MOMALISA_RECIPES": " ".join(recipes[model] for model in models), "MOMALISA_THREADS": "1"}
            replica = self.replicas[name] = Service(name, ["momalisa-model"], own, folder / f"{name}.log")
            self.proxies[name] = Proxy(replica.url)
        self.environment = {
            "MOMALISA_REPLICAS": " ".join(proxy.url for proxy in self.proxies.values()),
            "MOMALISA_BUCKET": str(folder / "bucket"),
            "MOMALISA_DATABASE_URL": f"sqlite:///{folder}/catalogue.sqlite",
            "MOMALISA_REFRESH_S": "0.5",
            "MOMALISA_BACKUP_SHARDS": "false",
        }
        self.api = Service("api", ["momalisa", "serve"], self.environment, folder / "api.log")
        super().__init__(self.api.url)

    def models(self) -> dict[str, dict[str, Any]]:
        """The models that the API offers, by name."""
        answer = httpx.get(self.url + "/api/v1/models", verify=TLS)
        return {entry["card"]["model"]: entry for entry in answer.json()["models"]} if answer.is_success else {}

    def awake_by_model(self) -> dict[str, int]:
        try:
            return {name: entry["replicas"]["awake"] for name, entry in self.models().items()}
        except httpx.TransportError:
            return {}

    def operator(self, *arguments: str) -> None:
        """An operator's command on the same catalogue."""
        subprocess.run([str(SCRIPTS / "momalisa"), *arguments], env={**os.environ, **self.environment}, check=True)

    def rendered_by(self, name: str) -> set[str]:
        """The models of the recipes of which a replica has sent frames."""
        return {json.loads(recipe)["model"] for recipe, _ in self.proxies[name].recording.frames}


def write_recipe(folder: Path, name: str) -> str:
    """A recipe for random weights of a small SDXL. Returns its path."""
    small_family("sdxl").save_pretrained(folder / f"weights-{name}", safe_serialization=True)
    recipe = {"name": name, "model_id": str(folder / f"weights-{name}"), "engine": "diffusion", "license": "none"}
    recipe |= {"commercial": True, "download_gb": 0, "card": SIZES}
    recipe |= {"resources": {"gpu": None, "memory_gib": 1, "cpus": 1}}
    # JSON is YAML, too.
    path = folder / f"{name}.yml"
    path.write_text(json.dumps(recipe))
    return str(path)


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoModels]:
    folder = tmp_path_factory.mktemp("models")
    recipes = {"atelier": "atelier"} | {name: write_recipe(folder, name) for name in (SMALL, LATER)}
    running = TwoModels(folder, recipes)
    with ExitStack() as stack:
        for proxy in running.proxies.values():
            stack.enter_context(proxy.running())
        for service in [*running.replicas.values(), running.api]:
            stack.callback(service.end)
        for name in ("first", "second", "both"):
            running.replicas[name].start()
        running.api.start()
        wait_until(lambda: running.awake_by_model() == {"atelier": 2, SMALL: 2})
        yield running


def test_walks_of_both_models_at_once_survive_the_replica_that_holds_both(two_models: TwoModels) -> None:
    """Neither model waits for the other, and nothing of one is rendered by replicas of the other."""
    both = two_models.proxies["both"]
    both.let(1)
    walks = [two_models.request_walk(**new_request(model=model)) for model in ("atelier", SMALL)]
    wait_until(lambda: both.recording.frames)
    two_models.replicas["both"].kill()
    both.let_all()
    ended = [two_models.ended(walk) for walk in walks]
    assert [walk["state"] for walk in ended] == ["done", "done"], [walk["error"] for walk in ended]
    assert [walk["spec"]["model"] for walk in ended] == ["atelier", SMALL]
    assert two_models.rendered_by("first") == {"atelier"}
    assert two_models.rendered_by("second") == {SMALL}
    two_models.replicas["both"].start()
    wait_until(lambda: two_models.awake_by_model() == {"atelier": 2, SMALL: 2})


def test_places_in_the_queue_and_estimates_are_those_of_the_model(two_models: TwoModels) -> None:
    """Whoever waits for one model does not stand behind those who wait for another."""
    with ExitStack() as stack:
        for proxy in two_models.proxies.values():
            stack.enter_context(proxy.holding(0))
        # The replicas that hold each model can have a shard of one walk each.
        ateliers = [two_models.request_walk(**new_request(model="atelier")) for _ in range(5)]
        small = [two_models.request_walk(**new_request(model=SMALL)) for _ in range(5)]
        last = two_models.read(ateliers[-1]), two_models.read(small[-1])
        # At most the five of its own model, less those that have begun: of all ten, three could have.
        assert all(1 <= walk["queue_position"] <= 5 for walk in last), [walk["queue_position"] for walk in last]
        assert last[0]["replicas_awake"] == last[1]["replicas_awake"] == 2
    assert {two_models.ended(walk)["state"] for walk in [*ateliers, *small]} == {"done"}
    assert two_models.rendered_by("first") == {"atelier"}
    assert two_models.rendered_by("second") == {SMALL}


def test_a_model_comes_and_goes_while_the_api_runs(two_models: TwoModels) -> None:
    """A replica brings its card; a retired model makes no new walks, and its old ones stay."""
    two_models.replicas["later"].start()
    wait_until(lambda: two_models.awake_by_model().get(LATER) == 1)
    walk = two_models.ended(two_models.request_walk(**new_request(model=LATER)))
    assert walk["state"] == "done", walk["error"]
    two_models.operator("models", "retire", LATER)
    # Other processes see the change within MOMALISA_REFRESH_S, and each of these is a walk of its own.
    refused = wait_until(
        lambda: answer if (answer := _post(two_models, new_request(model=LATER))).is_error else None, every_s=0.5
    )
    assert refused.headers["content-type"] == "application/problem+json"
    assert "atelier" in refused.json()["detail"], "it names what there is"
    assert LATER not in two_models.models()
    assert two_models.read(walk)["state"] == "done"
    assert two_models.fetch(walk["films"]["walk.gif"]).startswith(b"GIF")
    # Known while none of its replicas is awake, and offered again.
    two_models.replicas["later"].kill()
    two_models.operator("models", "retire", LATER, "--undo")
    wait_until(lambda: two_models.awake_by_model().get(LATER) == 0)


def _post(client: Client, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(client.url + "/api/v1/walks", json=body, timeout=30, verify=TLS)
