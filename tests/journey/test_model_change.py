"""Another model on the same bucket and catalogue, as docs/operations.md describes it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.client import Client
from tests.support.processes import WEIGHTS, Service, wait_until

REQUEST = {"start": "a red sunburst on yellow", "end": "blue waves", "spacing": "uniform", "steps": 2}


@contextmanager
def started(folder: Path, model: str) -> Iterator[Client]:
    """The API and one replica with a model of this name, ready. Kills both at the end."""
    card = folder / f"{model}.json"
    card.write_text(json.dumps({**json.loads((WEIGHTS / "card.json").read_text()), "model": model}))
    environment = {
        "MOMALISA_MODEL_CARD": str(card),
        "MOMALISA_MODEL_ID": str(WEIGHTS),
        "MOMALISA_THREADS": "1",
        "MOMALISA_BUCKET": str(folder / "bucket"),
        "MOMALISA_DATABASE_URL": f"sqlite:///{folder}/catalogue.sqlite",
        "MOMALISA_REFRESH_S": "0.5",
    }
    replica = Service("replica", ["momalisa-model"], environment, folder / f"replica-{model}.log")
    api = Service("api", ["momalisa", "serve"], environment, folder / f"api-{model}.log")
    try:
        replica.start()
        api.start(MOMALISA_REPLICAS=replica.url)
        client = Client(api.url)
        wait_until(client.awake)
        yield client
    finally:
        api.end()
        replica.end()


def test_an_unfinished_walk_of_the_former_model_fails_and_later_walks_are_made(tmp_path):
    """Its frames can never be rendered again; without an end it would hold up every walk after it."""
    with started(tmp_path, "first") as visitor:
        long = visitor.request_walk(**REQUEST, frames=241)
        wait_until(lambda: visitor.read(long)["frames_ready"])
    with started(tmp_path, "second") as visitor:
        walk = visitor.ended(visitor.request_walk(**REQUEST, frames=5))
        long = visitor.ended(long)
        frame = httpx.get(f"{visitor.url}{long['url']}/frames/{long['frames_ready'][0]}.png")
    assert walk["state"] == "done", walk["error"]
    assert long["state"] == "failed"
    assert long["error"].startswith("This walk needs the model first ")
    assert "with second (" in long["error"]
    assert frame.status_code == 200, "what was rendered stays"
