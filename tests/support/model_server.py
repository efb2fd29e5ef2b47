"""A replica behind a real socket, for tests that disconnect, send too much, or break its model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import torch
import uvicorn

from momalisa_model.app import create_app
from momalisa_model.engines.diffusion import DiffusionEngine
from momalisa_model.lifecycle import LoadedModel
from momalisa_model.settings import Settings


def recipe_for(ready: LoadedModel, **changes: Any) -> dict[str, Any]:
    """A valid recipe for the loaded model, as JSON."""
    card = ready.answer.card
    recipe = {"start": "a red sun", "end": "blue waves", "negative_prompt": "", "seed": 7, "guidance_scale": 4.0}
    recipe |= {"width": card.width, "height": card.height, "num_inference_steps": 3, "scheduler": card.scheduler}
    return recipe | {"model": card.model, "revision": card.revision} | changes


def wait_until(happened: Callable[[], object], limit_s: float = 20) -> None:
    """Wait until the condition is true; fail after limit_s seconds."""
    ends = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < ends, "the condition was not met in time"
        time.sleep(0.01)


class Server:
    """A replica behind a real socket, in a thread of this process, so that a test can change its model."""

    def __init__(self, settings: Settings, ready: bool = True) -> None:
        """ready: whether to wait for the weights; False for a replica that never becomes ready."""
        self._awaited = "/readyz" if ready else "/healthz"
        self.app = create_app(settings)
        self.uvicorn = uvicorn.Server(uvicorn.Config(self.app, port=0, log_config=None, timeout_graceful_shutdown=2))
        self._thread = threading.Thread(target=self.uvicorn.run)

    def __enter__(self) -> Server:
        self._thread.start()
        wait_until(lambda: self.uvicorn.started)
        wait_until(lambda: self.get(self._awaited).status_code == 200)
        return self

    def __exit__(self, *_: object) -> None:
        self.uvicorn.should_exit = True
        self._thread.join()

    @property
    def url(self) -> str:
        port = self.uvicorn.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    @property
    def ready(self) -> LoadedModel:
        """The first model."""
        loaded: LoadedModel = self.app.state.replica.ready()[0]
        return loaded

    @property
    def unet(self) -> torch.nn.Module:
        engine = self.ready.engine
        assert isinstance(engine, DiffusionEngine)
        unet: torch.nn.Module = engine.sampler.weights.pipeline.unet
        return unet

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30)

    def render(self, fractions: list[float], **changes: Any) -> httpx.Response:
        body = {"recipe": recipe_for(self.ready, **changes), "fractions": fractions}
        return httpx.post(self.url + "/v1/render", json=body, timeout=60)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all series with this name that have these labels."""
        return sum(
            float(sample.value)
            for family in self.app.state.replica.metrics.registry.collect()
            for sample in family.samples
            if sample.name == f"momalisa_model_{name}" and labels.items() <= sample.labels.items()
        )
