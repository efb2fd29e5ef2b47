"""The contract of Vertex AI and KServe V1: the same frames in another envelope."""

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


def predict(server: Server, *frames: tuple[float, dict[str, Any]], **more: Any) -> httpx.Response:
    instances = [{"recipe": recipe_for(server.ready, **changes), "fraction": fraction} for fraction, changes in frames]
    return httpx.post(server.url + "/predict", json={"instances": instances, **more}, timeout=60)


def test_predictions_are_the_frames_that_render_streams(platform):
    """Equal in number, in the requested order, across recipes, byte for byte."""
    answer = predict(platform, (0.5, {}), (0.0, {}), (0.5, {"seed": 8}), (1.0, {}), parameters={"any": 1})
    assert answer.status_code == 200
    predictions = answer.json()["predictions"]
    assert [frame["fraction"] for frame in predictions] == [0.5, 0.0, 0.5, 1.0]
    streamed = [json.loads(line)["png"] for line in platform.render([0.5, 0.0, 1.0]).text.splitlines()[1:]]
    assert [predictions[number]["png"] for number in (0, 1, 3)] == streamed
    assert predictions[2]["png"] != predictions[0]["png"]


def test_the_health_route_is_like_readyz(platform, settings_for):
    """Platforms choose its path. Without a predict route there are no predictions."""
    assert platform.get("/health").json() == {"status": "ready"}
    with Server(settings_for("/nowhere", health_route="/health"), ready=False) as not_ready:
        assert not_ready.get("/health").status_code == 503
        assert not_ready.get("/predict").status_code == 404


def test_an_invalid_instance_is_refused_before_any_is_rendered(platform):
    """Rendering the others would be for nothing."""
    before = platform.metric("frames_total")
    answer = predict(platform, (0.5, {}), (0.5, {"width": 7 * 8 + 1}))
    assert answer.status_code == 422
    assert "width" in answer.text
    assert predict(platform).status_code == 422
    assert platform.metric("frames_total") == before


def test_a_disconnect_cancels_the_predictions(platform):
    """After a platform's own timeout, the device must not continue."""
    recipe = recipe_for(platform.ready, num_inference_steps=50)
    instances = [{"recipe": recipe, "fraction": number / 50} for number in range(50)]
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(platform.url + "/predict", json={"instances": instances}, timeout=0.5)
    wait_until(lambda: platform.metric("cancelled_total") >= 1)
    assert predict(platform, (0.5, {})).status_code == 200


def test_an_error_on_the_device_keeps_its_status_and_type(platform):
    """A caller must see that fewer pixels would help."""
    errors = iter([MemoryError()])

    def run_out(*_: object) -> None:
        if error := next(errors, None):
            raise error

    hook = platform.unet.register_forward_pre_hook(run_out)
    try:
        answer = predict(platform, (0.5, {}))
    finally:
        hook.remove()
    assert (answer.status_code, answer.json()["type"]) == (507, "urn:momalisa:problem:out-of-memory")
    assert predict(platform, (0.5, {})).status_code == 200


def test_a_platform_sets_port_and_paths(monkeypatch):
    """Vertex AI sets these variables."""
    for name, value in {"HTTP_PORT": "8080", "HEALTH_ROUTE": "/ping", "PREDICT_ROUTE": "/v1/predict"}.items():
        monkeypatch.setenv(f"AIP_{name}", value)
    settings = Settings()
    assert (settings.port, settings.health_route, settings.predict_route) == (8080, "/ping", "/v1/predict")
