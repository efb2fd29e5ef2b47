"""The contract of Vertex AI and KServe V1: the same frames, by another envelope."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from momalisa_model.settings import Settings
from tests.support.model_server import Server, recipe_for, wait_until


@pytest.fixture(scope="module")
def platform(settings_for: Callable[..., Settings]) -> Iterator[Server]:
    with Server(settings_for("plain", predict_route="/predict", health_route="/health")) as running:
        yield running


def ask(server: Server, *frames: tuple[float, dict[str, Any]], **more: Any) -> httpx.Response:
    instances = [{"recipe": recipe_for(server.ready, **changes), "fraction": fraction} for fraction, changes in frames]
    return httpx.post(server.url + "/predict", json={"instances": instances, **more}, timeout=60)


def test_predictions_are_the_frames_that_render_streams(platform):
    """Of equal length, in the order asked for, across recipes, byte for byte."""
    answer = ask(platform, (0.5, {}), (0.0, {}), (0.5, {"seed": 8}), (1.0, {}), parameters={"any": 1})
    assert answer.status_code == 200
    predictions = answer.json()["predictions"]
    assert [frame["fraction"] for frame in predictions] == [0.5, 0.0, 0.5, 1.0]
    streamed = [json.loads(line)["png"] for line in platform.render([0.5, 0.0, 1.0]).text.splitlines()[1:]]
    assert [predictions[number]["png"] for number in (0, 1, 3)] == streamed
    assert predictions[2]["png"] != predictions[0]["png"]


def test_health_means_ready(platform, settings_for):
    assert platform.get("/health").json() == {"status": "ready"}
    with Server(settings_for("/nowhere", health_route="/health"), ready=False) as asleep:
        assert asleep.get("/health").status_code == 503
        assert asleep.get("/predict").status_code == 404


def test_one_wrong_instance_is_told_before_any_is_rendered(platform):
    before = platform.metric("frames_total")
    answer = ask(platform, (0.5, {}), (0.5, {"width": 7 * 8 + 1}))
    assert answer.status_code == 422
    assert "width" in answer.text
    assert ask(platform).status_code == 422
    assert platform.metric("frames_total") == before


def test_hanging_up_cancels(platform):
    """A platform's own time-out must not leave the device at work."""
    recipe = recipe_for(platform.ready, num_inference_steps=50)
    instances = [{"recipe": recipe, "fraction": number / 50} for number in range(50)]
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(platform.url + "/predict", json={"instances": instances}, timeout=0.5)
    wait_until(lambda: platform.metric("cancelled_total") >= 1)
    assert ask(platform, (0.5, {})).status_code == 200


def test_what_breaks_on_the_device_is_told_in_its_own_words(platform):
    """Not as a failure of ours: a platform's caller must see that fewer pixels would do."""

    def run_out(*_: object) -> None:
        raise MemoryError

    hook = platform.unet.register_forward_pre_hook(run_out)
    try:
        answer = ask(platform, (0.5, {}))
    finally:
        hook.remove()
    assert (answer.status_code, answer.json()["type"]) == (507, "urn:momalisa:problem:out-of-memory")
    assert ask(platform, (0.5, {})).status_code == 200


def test_a_platform_names_port_and_paths(monkeypatch):
    """Vertex AI sets these and no others."""
    for name, value in {"HTTP_PORT": "8080", "HEALTH_ROUTE": "/ping", "PREDICT_ROUTE": "/v1/predict"}.items():
        monkeypatch.setenv(f"AIP_{name}", value)
    settings = Settings()
    assert (settings.port, settings.health_route, settings.predict_route) == (8080, "/ping", "/v1/predict")
