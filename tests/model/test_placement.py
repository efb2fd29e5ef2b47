"""What a card says about the device: each option renders the same picture, and is used where it helps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from momalisa_model.engines.diffusion import DiffusionEngine
from momalisa_model.engines.sampler import Sampler
from momalisa_model.fingerprints import made_of
from momalisa_model.lifecycle import LoadedModel, load_model
from momalisa_model.placement import compile_blocks, effective, place
from momalisa_model.problems import UnsuitableModel
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.spread import room_of, size_of, spread
from momalisa_model.streaming import Shard
from momalisa_model.weights import load
from momalisa_model.wire import DeviceOptions, RenderRequest

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)


def picture(ready: LoadedModel, frames: int = 2, **changes: Any) -> torch.Tensor:
    card = ready.answer.card
    names = ("negative_prompt", "width", "height", "guidance_scale", "scheduler", "model", "revision")
    defaults = {name: getattr(card, name) for name in names}
    recipe = BetweenRecipe(start="a", end="b", seed=7, num_inference_steps=2, **defaults).model_copy(update=changes)
    files = {"grey": np.full((card.height, card.width, 3), 128, np.uint8)}
    fractions = [place / frames for place in range(frames)]
    return ready.engine.sampler.pictures(recipe, ready.engine.sampler.encode(recipe), fractions, lambda: False, files)


@pytest.fixture
def with_options(loaded_model, settings_for, tmp_path) -> Callable[..., LoadedModel]:
    """Loads the model "plain" with a card that has these options."""

    def loaded(**options: Any) -> LoadedModel:
        card = loaded_model("plain").answer.card.model_dump(mode="json")
        file = Path(tmp_path / "card.json")
        file.write_text(json.dumps(card | {"device": options}))
        return load_model(settings_for("plain", model_card=file))

    return loaded


HOOKED = {
    "none": set(),
    "text_encoder": {"text_encoder"},
    "model": {"text_encoder", "unet", "vae"},
    "spread": {"text_encoder", "unet", "vae"},
}


@pytest.mark.parametrize("offload", HOOKED)
def test_networks_that_take_turns_on_the_device_render_the_same_picture(loaded_model, with_options, offload):
    """A model that does not fit must not look different; and a second shard must work as the first one does."""
    ready = with_options(offload=offload)
    for _ in range(2):
        torch.testing.assert_close(picture(ready), picture(loaded_model("plain")), atol=1e-6, rtol=0)
    stops = {"start_picture": "grey", "strength": 0.8}
    torch.testing.assert_close(picture(ready, **stops), picture(loaded_model("plain"), **stops), atol=1e-6, rtol=0)
    assert ready.answer.made_of.get("options") == {"none": None}.get(offload, f"offload {offload}")
    parts = ready.engine.sampler.weights.pipeline.components
    assert {name for name, part in parts.items() if hasattr(part, "_hf_hook")} == HOOKED[offload]


def test_a_shard_is_not_prepared_ahead_if_networks_take_turns(with_options):
    """The text encoder would push the network that renders from the device."""
    ready = with_options(offload="model")
    runs: list[None] = []
    ready.engine.sampler.weights.pipeline.text_encoder.register_forward_pre_hook(lambda *_: runs.append(None))
    recipe = BetweenRecipe(
        start="never encoded",
        end="nor this",
        seed=7,
        num_inference_steps=2,
        **{
            name: getattr(ready.answer.card, name)
            for name in ("negative_prompt", "width", "height", "guidance_scale", "scheduler", "model", "revision")
        },
    )
    Shard(RenderRequest(recipe=recipe, fractions=[0.5]), ready, None).prepare()
    assert runs == []


def test_a_model_that_does_not_even_fit_on_all_devices_is_refused(settings_for):
    """In a sentence, before half of it is there."""
    pipeline = load(settings_for("plain")).pipeline
    networks = {"text_encoder": pipeline.text_encoder, "unet": pipeline.unet, "vae": pipeline.vae}
    enough = sum(map(size_of, networks.values()))
    spread(pipeline, networks, {CPU: enough})
    for room in ({CPU: enough - 1}, {CPU: 0, GPU: enough}):
        with pytest.raises(UnsuitableModel, match="too little memory for the model"):
            spread(pipeline, networks, room)


def test_a_model_is_spread_over_its_own_gpu_first(monkeypatch):
    """The pipeline works there; three quarters of what is free are for weights."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100 * (device.index + 1), 1000))
    assert room_of(GPU) == {GPU: 150, torch.device("cuda", 0): 75, torch.device("cuda", 2): 225}
    assert next(iter(room_of(GPU))) == GPU


@pytest.mark.parametrize("option", ["vae_slicing", "vae_tiling"])
def test_a_vae_that_saves_memory_renders_the_same_picture(loaded_model, with_options, option):
    """Slices have another batch size, so the last bits may differ. These frames are smaller than a tile."""
    ready = with_options(**{option: True})
    assert getattr(ready.engine.sampler.weights.pipeline.vae, f"use_{option.removeprefix('vae_')}")
    torch.testing.assert_close(picture(ready), picture(loaded_model("plain")), atol=1e-5, rtol=0)
    assert ready.answer.made_of["options"] == option, "replicas with and without it have different fingerprints"


def test_compiled_blocks_and_channels_last_render_the_same_picture(settings_for, loaded_model):
    """As on a GPU, but compiled for torch's own operators: the compiler of kernels is torch's business."""
    weights = load(settings_for("plain"))
    place(weights.pipeline, DeviceOptions(compile=True, channels_last=True), CPU, backend="eager")
    compiled = [module for module in weights.pipeline.unet.modules() if module._compiled_call_impl]
    assert {type(module).__name__ for module in compiled} == {"BasicTransformerBlock", "ResnetBlock2D"}
    ready = loaded_model("plain")
    engine = DiffusionEngine(Sampler(weights, ready.card.micro_batch), ready.card)
    other = LoadedModel(engine, ready.answer)
    torch.testing.assert_close(picture(other), picture(ready), atol=1e-4, rtol=0)


def test_options_for_gpus_are_not_used_on_cpus(loaded_model, with_options):
    """One card is for replicas of both kinds. On a CPU, they would cost batch invariance."""
    options = DeviceOptions(compile=True, channels_last=True, vae_slicing=True)
    assert effective(options, CPU) == DeviceOptions(vae_slicing=True)
    assert effective(options, GPU) == options
    ready = with_options(compile=True, channels_last=True)
    assert ready.answer.fingerprint == loaded_model("plain").answer.fingerprint
    weights = ready.engine.sampler.weights
    assert made_of(weights, 4, options)["options"] == "channels_last, compile, vae_slicing"


def test_an_option_that_the_vae_does_not_have_is_refused(settings_for):
    """It would be without effect, and its memory missing under load."""
    weights = load(settings_for("plain"))
    weights.pipeline.vae = torch.nn.Identity()
    with pytest.raises(UnsuitableModel, match="vae_slicing"):
        place(weights.pipeline, DeviceOptions(vae_slicing=True), CPU)


def test_a_network_without_known_blocks_stays_as_it_is():
    """A new family must render, compiled or not."""
    network = torch.nn.Linear(2, 2)
    compile_blocks(network, "eager")
    assert network._compiled_call_impl is None
