"""Small models with unusual shapes, loaded once per session, and a replica that serves one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import structlog
import torch
from diffusers import EulerDiscreteScheduler, PNDMScheduler, UniPCMultistepScheduler

from momalisa_model.lifecycle import LoadedModel, load_model
from momalisa_model.settings import Settings
from tests.support import processes
from tests.support.hub import Hub, serving
from tests.support.model_server import Server
from tests.support.small_models import save, small_kl, small_tiny, small_unet


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """diffusers' schedulers convert tensors in a way that a later NumPy will refuse; only diffusers can fix it."""
    ignored = [
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning:diffusers",
        "ignore:`FluxPosEmbed` is deprecated:FutureWarning",
        "ignore:__array_wrap__ must accept context and return_scalar:DeprecationWarning",
    ]
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for warning in ignored:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(scope="session", autouse=True)
def plain_tracebacks() -> None:
    """structlog's default prints the variables of each frame, which takes seconds for those of torch."""
    formatter = structlog.dev.plain_traceback
    structlog.configure(processors=[structlog.dev.ConsoleRenderer(exception_formatter=formatter)])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def free_port() -> int:
    return processes.free_port()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders by name; the models differ in latent channels, token limit and pixels per latent."""
    base = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    v_prediction = UniPCMultistepScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing", steps_offset=1
    )
    plain = PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1)
    text = {"addition_embed_type": "text", "addition_embed_type_num_heads": 4}
    return {
        "plain": save(base / "tests" / "plain", 20, small_unet(4, 16), small_kl(4, 2), plain),
        "wide": save(base / "tests" / "wide", 77, small_unet(12, (4, 6), **text), small_tiny(12), v_prediction),
        "distilled": save(
            base / "tests" / "distilled",
            20,
            small_unet(4, 8, time_cond_proj_dim=16),
            small_kl(4, 4),
            EulerDiscreteScheduler(timestep_spacing="trailing", steps_offset=1),
        ),
    }


@pytest.fixture(scope="session")
def settings_for(models: dict[str, Path]) -> Callable[..., Settings]:
    """Settings for a model's name or folder: on the CPU, with one thread."""

    def settings(model: str, **more: Any) -> Settings:
        folder = str(models.get(model, model))
        return Settings(**{"model_id": folder, "device": "cpu", "threads": 1, "port": 0, **more})

    return settings


@pytest.fixture(scope="session")
def loaded_model(settings_for: Callable[..., Settings]) -> Callable[[str], LoadedModel]:
    """Loads and warms up each model once per session: rendering changes nothing in it."""
    loaded: dict[str, LoadedModel] = {}

    def ready(model: str) -> LoadedModel:
        if model not in loaded:
            loaded[model] = load_model(settings_for(model))
        return loaded[model]

    return ready


@pytest.fixture(scope="module")
def server(settings_for: Callable[..., Settings]) -> Iterator[Server]:
    with Server(settings_for("plain")) as running:
        yield running


@pytest.fixture
def hub_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Runs a hub with the repository someone/small, others by their names, and an empty cache."""

    @contextmanager
    def running(folder: Path, **others: Path) -> Iterator[Hub]:
        with serving({"someone/small": folder, **others}) as hub, monkeypatch.context() as patch:
            # What HF_ENDPOINT and HF_HUB_CACHE set.
            constants = huggingface_hub.constants
            patch.setattr(constants, "ENDPOINT", hub.url)
            patch.setattr(
                constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
            )
            patch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
            yield hub

    return running
