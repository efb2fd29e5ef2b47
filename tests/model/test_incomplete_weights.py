"""Weights that do not match their network are refused: the libraries would fill what is missing with random numbers."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from momalisa_model.networks import load_network
from momalisa_model.problems import UnsuitableModel
from momalisa_model.settings import embedded_model
from momalisa_model.weights import load
from tests.support.small_models import with_safety_checker

FILES = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
    "safety_checker": "model.safetensors",
}
KINDS = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "safety_checker": StableDiffusionSafetyChecker,
}
CASES = 20


@pytest.fixture(scope="module")
def whole(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain model with a safety checker."""
    return with_safety_checker(models["plain"], tmp_path_factory.mktemp("whole") / "whole", 1.1)


@pytest.fixture
def with_keys(whole: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the model, one of whose parts has lost, gained or renamed keys."""

    def changed(part: str, lose: list[str] | None = None, gain: list[str] | None = None) -> Path:
        folder = tmp_path / "whole"
        shutil.copytree(whole, folder, dirs_exist_ok=True)
        tensors = load_file(whole / part / FILES[part])
        spare = next(iter(tensors.values()))
        kept = {key: tensor for key, tensor in tensors.items() if key not in (lose or [])}
        save_file(kept | {key: spare.clone() for key in gain or []}, folder / part / FILES[part], {"format": "pt"})
        return folder

    return changed


@pytest.mark.parametrize("part", FILES)
def test_a_deleted_key_of_any_part_is_named(whole, with_keys, settings_for, part):
    """A replica with a random layer would get ready and paint other pictures than its neighbours."""
    key = sorted(load_file(whole / part / FILES[part]))[-1]
    with pytest.raises(UnsuitableModel, match=f"The {part} of whole lacks key") as refused:
        load(settings_for(str(with_keys(part, lose=[key]))))
    assert key in str(refused.value)


@pytest.mark.parametrize("part", FILES)
def test_no_key_of_any_part_can_be_deleted_unnoticed(whole, with_keys, part):
    """Twenty random ones of each part, one at a time."""
    keys = sorted(load_file(whole / part / FILES[part]))
    for key in random.Random(13).sample(keys, min(CASES, len(keys))):
        folder = with_keys(part, lose=[key])
        with pytest.raises(UnsuitableModel, match=f"The {part} of whole lacks key {key}"):
            load_network(KINDS[part], folder / part, f"The {part} of whole", torch.float32, None)


@pytest.mark.parametrize("part", FILES)
def test_an_unknown_key_of_any_part_is_named(with_keys, settings_for, part):
    """It belongs to another network, or to one with more layers than the configuration says."""
    with pytest.raises(UnsuitableModel, match=f"The {part} of whole has the unknown key layers.99.weight"):
        load(settings_for(str(with_keys(part, gain=["layers.99.weight"]))))


@pytest.mark.parametrize("part", FILES)
def test_renamed_keys_are_counted_and_the_first_ones_are_named(whole, with_keys, settings_for, part):
    """As a conversion from another format would leave them."""
    keys = sorted(load_file(whole / part / FILES[part]))[:5]
    folder = with_keys(part, lose=keys, gain=[f"old.{key}" for key in keys])
    with pytest.raises(UnsuitableModel, match=r"lacks keys .* and 2 more and has the unknown keys old\..* and 2 more"):
        load(settings_for(str(folder)))


def test_a_key_that_the_index_of_a_sharded_network_promises_is_missed(tmp_path, settings_for):
    """The atelier's UNet is in two files. The list of their keys says nothing about what is in them."""
    folder = Path(shutil.copytree(embedded_model(), tmp_path / "sharded"))
    shard = folder / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors"
    tensors = load_file(shard)
    lost = sorted(tensors)[0]
    save_file({key: tensor for key, tensor in tensors.items() if key != lost}, shard, {"format": "pt"})
    with pytest.raises(UnsuitableModel, match=f"The unet of sharded lacks key {lost}"):
        load(settings_for(str(folder)))


def test_the_rest_of_a_whole_clip_in_the_text_encoder_is_no_fault(with_keys, settings_for):
    """Some models ship the weights of a whole CLIP. Its text encoder is complete."""
    load(settings_for(str(with_keys("text_encoder", gain=["text_projection.weight", "logit_scale"]))))


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("text_encoder", "text_model.embeddings.position_ids"),
        ("safety_checker", "vision_model.vision_model.embeddings.position_ids"),
    ],
)
def test_the_positions_that_older_libraries_wrote_are_no_fault(with_keys, part, key):
    """The most used models of 2022 have them. They are numbers in a row, which no library reads any more."""
    load_network(KINDS[part], with_keys(part, gain=[key]) / part, "whole", torch.float32, None)


def test_the_attention_of_a_vae_may_have_its_former_names(whole, tmp_path):
    """As the most used models of 2022 have it."""
    folder = Path(shutil.copytree(whole / "vae", tmp_path / "vae"))
    tensors = load_file(folder / FILES["vae"])
    former = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for now, then in former.items():
        tensors = {key.replace(f"attentions.0.{now}.", f"attentions.0.{then}."): t for key, t in tensors.items()}
    assert any(".query." in key for key in tensors)
    save_file(tensors, folder / FILES["vae"], {"format": "pt"})
    load_network(AutoencoderKL, folder, "whole", torch.float32, None)
