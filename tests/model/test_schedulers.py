"""What a card offers works: every scheduler is tried with the model's own configuration before it is offered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from momalisa_model.families import NOISE
from momalisa_model.lifecycle import load_model
from momalisa_model.model_card import derive_card
from momalisa_model.problems import UnsuitableModel
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.schedulers import failure, for_one_run
from momalisa_model.weights import load
from tests.support.model_server import recipe_for

STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


@pytest.fixture
def model_with(models: dict[str, Path], tmp_path: Path) -> Callable[..., str]:
    """A copy of the plain model with another scheduler and its configuration."""

    def changed(kind: str, **config: Any) -> str:
        folder = Path(shutil.copytree(models["plain"], tmp_path / "changed"))
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", kind]}))
        (folder / "scheduler" / "scheduler_config.json").write_text(
            json.dumps({"_class_name": kind, **STABLE_DIFFUSION, **config})
        )
        return str(folder)

    return changed


@pytest.mark.parametrize(
    ("kind", "config", "expected"),
    [
        ("DEISMultistepScheduler", {"algorithm_type": "deis", "solver_type": "logrho"}, "DEIS"),
        ("SASolverScheduler", {"algorithm_type": "data_prediction"}, "Euler"),
        ("DPMSolverSinglestepScheduler", {"algorithm_type": "dpmsolver++", "lower_order_final": False}, "Euler"),
        ("PNDMScheduler", {"skip_prk_steps": False}, "PNDM"),
        ("LMSDiscreteScheduler", {}, "Euler"),
        ("DPMSolverSDEScheduler", {"noise_sampler_seed": None}, "Euler"),
        ("SomethingOfTheFuture", {}, "Euler"),
    ],
)
def test_every_scheduler_on_a_derived_card_renders(model_with, settings_for, kind, config, expected):
    """LMSDiscrete needs scipy and DPMSolverSDE needs torchsde, which are not installed, but nor are the two used."""
    ready = load_model(settings_for(model_with(kind, **config)))
    card = ready.answer.card
    assert card.scheduler == expected
    assert len(card.schedulers) >= 3
    for scheduler in card.schedulers:
        recipe = BetweenRecipe(**recipe_for(ready, scheduler=scheduler, num_inference_steps=5, width=16, height=16))
        pictures = ready.engine.sampler.pictures(recipe, ready.engine.sampler.encode(recipe), [0.5], lambda: False)
        assert pictures.isfinite().all()


def test_beta_sigmas_do_not_need_scipy(model_with, settings_for):
    """It is not installed. The model's own scheduler is used without them, and the log says so."""
    with structlog.testing.capture_logs() as log:
        card = derive_card(load(settings_for(model_with("UniPCMultistepScheduler", use_beta_sigmas=True))))
    assert card.scheduler == "UniPC"
    assert set(card.schedulers) == set(NOISE)
    assert any("beta sigmas" in line["event"] for line in log)


def test_a_card_that_offers_a_scheduler_that_fails_is_refused(model_with, settings_for, tmp_path):
    """Better at start than as a failure of each walk that uses it."""
    folder = model_with("SASolverScheduler", algorithm_type="data_prediction")
    card = derive_card(load(settings_for(folder))).model_copy(update={"schedulers": ("Euler", "DPMSolverMultistep")})
    file = tmp_path / "card.json"
    file.write_text(card.model_dump_json())
    with pytest.raises(UnsuitableModel, match="allows the scheduler DPMSolverMultistep, which does not work"):
        load_model(settings_for(folder, model_card=file))


@pytest.mark.parametrize("config", ["", "{", "[1]", '{"num_train_timesteps": null}', '{"beta_schedule": "none"}'])
def test_a_broken_configuration_of_the_scheduler_is_reported(models, tmp_path, settings_for, config):
    """No scheduler can be built from it."""
    folder = Path(shutil.copytree(models["plain"], tmp_path / "broken"))
    (folder / "scheduler" / "scheduler_config.json").write_text(config)
    with pytest.raises(UnsuitableModel, match=r"scheduler_config\.json"):
        load(settings_for(str(folder)))


def test_the_usual_configurations_work_with_every_offered_scheduler():
    """Those of Stable Diffusion 1.5, 2.1 and Turbo, with the most steps that a derived card allows."""
    usual = [
        {"skip_prk_steps": True, "set_alpha_to_one": False, "clip_sample": False},
        {"prediction_type": "v_prediction", "clip_sample": False, "set_alpha_to_one": False},
        {"timestep_spacing": "trailing", "interpolation_type": "linear", "prediction_type": "epsilon"},
    ]
    for config in usual:
        failures = {name: failure(name, STABLE_DIFFUSION | config, [25, 100]) for name in (*NOISE, "PNDM", "DEIS")}
        assert not any(failures.values()), failures


def test_trailing_steps_begin_with_the_last_timestep():
    """SDXL-Lightning is a LoRA for a model whose own configuration says "leading", which would waste the first step."""
    scheduler = for_one_run("EulerTrailing", {**STABLE_DIFFUSION, "timestep_spacing": "leading"}, 4)
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [999, 749, 499, 249]
