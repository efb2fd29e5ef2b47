"""A device that fails for good: callers are sent to another replica, and the process ends, to be started again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import httpx
import pytest
import torch

from momalisa_model.app import create_app
from momalisa_model.engines import diffusion
from momalisa_model.hub import Report
from momalisa_model.lifecycle import load_model
from momalisa_model.problems import UnsuitableModel
from momalisa_model.server import run
from momalisa_model.settings import ModelSource
from momalisa_model.weights import Weights, load
from tests.support.model_server import Server, recipe_for, wait_until

ILLEGAL = RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.fixture
def own_server(settings_for) -> Iterator[Server]:
    """A replica that no other test needs again."""
    with Server(settings_for("plain")) as running:
        yield running


@contextmanager
def failing(unet: torch.nn.Module, error: Exception, after: int = 0, times: int = 1000) -> Iterator[None]:
    """So many runs of the UNet raise the error, after so many good ones."""
    fails = chain([False] * after, [True] * times)

    def fail(*_: object) -> None:
        if next(fails, False):
            raise error

    hook = unet.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        hook.remove()


@pytest.mark.parametrize("error", [ILLEGAL, torch.OutOfMemoryError("CUDA out of memory.")])
def test_a_replica_that_cannot_even_render_the_defaults_gives_up(own_server, error):
    """Five attempts on one broken GPU would fail a walk. 503 sends the api to another replica."""
    body = {"recipe": recipe_for(own_server.ready), "fractions": [0.5]}
    with failing(own_server.unet, error):
        answer = own_server.render([0.5])
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:momalisa:problem:device-failed")
    assert int(answer.headers["retry-after"]) >= 1
    assert "another" in answer.json()["detail"]
    # Even if the device seems to work again: a half-broken one is not trusted.
    for refused in (own_server.get("/readyz"), httpx.post(own_server.url + "/v1/render", json=body)):
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:momalisa:problem:not-ready")
    assert own_server.metric("ready") == 0


def test_an_error_of_cuda_ends_the_replica_at_once(own_server):
    """Such an error stays: each later call would fail, and some hang. A self-test would be one of them."""
    with failing(own_server.unet, torch.AcceleratorError("CUDA error: device-side assert triggered"), times=1):
        answer = own_server.render([0.5])
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:momalisa:problem:device-failed")
    assert own_server.metric("ready") == 0


def test_numbers_that_are_invalid_whatever_is_rendered_are_a_fault_of_the_device(own_server):
    """422 would fail the walk for good, although every other replica could render it."""
    hook = own_server.unet.register_forward_hook(lambda _unet, _given, noise: (noise[0] * float("nan"),))
    try:
        answer = own_server.render([0.5])
    finally:
        hook.remove()
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:momalisa:problem:device-failed")


def test_frames_before_the_failure_are_sent_and_the_last_line_says_503(own_server):
    """The frames are valid. The api renders the others elsewhere."""
    with failing(own_server.unet, ILLEGAL, after=3):
        answer = own_server.render([0.0, 0.2, 0.4, 0.6, 0.8], scheduler="DDIM")
    assert answer.status_code == 200
    _head, *frames, last = [json.loads(line) for line in answer.text.splitlines()]
    assert len(frames) == 4
    assert (last["problem"]["status"], last["problem"]["type"]) == (503, "urn:momalisa:problem:device-failed")


def test_the_process_of_a_failed_device_ends_with_an_error(settings_for, free_port):
    """Whatever supervises it starts it again. Answers are sent before."""
    settings = settings_for("plain", port=free_port)
    app, ended = create_app(settings), []

    def serve() -> None:
        try:
            run(app, app.state.replica.queue, settings)
        except SystemExit as end:
            ended.append(end.code)

    thread = threading.Thread(target=serve)
    thread.start()
    url = f"http://127.0.0.1:{free_port}"
    wait_until(lambda: is_ready(url))
    model = app.state.replica.ready()[0]
    with failing(model.engine.sampler.weights.pipeline.unet, ILLEGAL):
        body = {"recipe": recipe_for(model), "fractions": [0.5]}
        answer = httpx.post(url + "/v1/render", json=body, timeout=30)
        thread.join(20)
    assert answer.status_code == 503
    assert "device has failed" in ended[0]


@pytest.fixture
def load_with_faults(monkeypatch) -> Callable[[Exception], None]:
    """From now on, loaded models raise this error in their first run, as a device at fault makes them do."""

    def set_error(error: Exception) -> None:
        def load_with_fault(source: ModelSource, report: Report) -> Weights:
            weights = load(source, report)

            def fail(*_: object) -> None:
                raise error

            weights.pipeline.unet.register_forward_pre_hook(fail)
            return weights

        monkeypatch.setattr(diffusion, "load", load_with_fault)

    return set_error


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_the_process_ends_if_the_device_fails_at_warm_up(settings_for, free_port, load_with_faults, error):
    """Such an error stays: the replica would never be ready, and nobody would start it again."""
    load_with_faults(error)
    settings = settings_for("plain", port=free_port)
    app = create_app(settings)
    with pytest.raises(SystemExit, match="device has failed"):
        run(app, app.state.replica.queue, settings)


def test_too_little_memory_at_warm_up_is_explained_and_does_not_end_the_process(settings_for, load_with_faults):
    """Another process would have no more memory, and would load for minutes again."""
    load_with_faults(torch.OutOfMemoryError("CUDA out of memory."))
    with Server(settings_for("plain"), ready=False) as running:
        wait_until(lambda: "being loaded" not in running.get("/readyz").json()["detail"])
        detail = running.get("/readyz").json()["detail"]
        assert not running.app.state.replica.queue.failed
    for remedy in ("micro_batch", "offload", "vae_slicing"):
        assert remedy in detail


def test_weights_that_do_not_fit_are_explained(settings_for, monkeypatch):
    """The advice differs from that for pictures: fewer of them need as many weights."""

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(UnsuitableModel, match=r"too little memory for it. Set MOMALISA_DTYPE .* `device.offload"):
        load_model(settings_for("plain"))


def is_ready(url: str) -> bool:
    try:
        return httpx.get(url + "/readyz").status_code == 200
    except httpx.TransportError:
        return False
