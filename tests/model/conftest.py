"""Small models of odd shapes, loaded once a session, and a replica that serves one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler, PNDMScheduler, UniPCMultistepScheduler

from momalisa_model.lifecycle import LoadedModel, load_model
from momalisa_model.settings import Settings
from tests.support.model_server import Server
from tests.support.small_models import save, small_kl, small_tiny, small_unet


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """diffusers' schedulers hand torch tensors to NumPy in a way that NumPy 2 will drop one day; not ours to mend."""
    theirs = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning:diffusers"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(theirs))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders by what is odd about them; no two share latent channels and token limit and pixels a latent."""
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
    """Settings by a model's name here or by folder: on the CPU, where every machine gives the same."""

    def settings(model: str, **more: Any) -> Settings:
        folder = str(models.get(model, model))
        return Settings(**{"model_id": folder, "device": "cpu", "threads": 1, "port": 0, **more})

    return settings


@pytest.fixture(scope="session")
def loaded_model(settings_for: Callable[..., Settings]) -> Callable[[str], LoadedModel]:
    """A loaded and warmed model, loaded once a session: nothing in it changes while it renders."""
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
