"""Layouts on disk that people have: variants in shards, files of older libraries, and schedules of later models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from momalisa_model.lifecycle import LoadedModel, load_model
from momalisa_model.problems import UnsuitableModel
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.schedulers import SCHEDULERS, for_one_run
from momalisa_model.weights import load
from tests.support.model_server import recipe_for

OLD_VOCABULARY = ("vocab.json", "merges.txt")
V_PREDICTION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "prediction_type": "v_prediction",
}
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


@pytest.fixture
def folder(models: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the plain model, which the test changes."""
    return Path(shutil.copytree(models["plain"], tmp_path / "copy"))


def edit(file: Path, **changes: Any) -> None:
    """Change fields of a JSON file; None removes a field."""
    fields = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in fields.items() if value is not None}))


def split(part: Path, name: str, variant: str, early: bool) -> None:
    """Replace the weights of a part by two shards of a variant, in half precision, with their index.

    early: whether the variant is before the number in the names of the shards, as libraries write it now.
    """
    tensors = load_file(part / f"{name}.safetensors")
    (part / f"{name}.safetensors").unlink()
    dtype = torch.float16 if variant == "fp16" else torch.bfloat16
    keys, weight_map = sorted(tensors), {}
    for number, some in enumerate((keys[::2], keys[1::2]), 1):
        numbers = f"-{number:05}-of-00002"
        file = f"{name}.{variant}{numbers}.safetensors" if early else f"{name}{numbers}.{variant}.safetensors"
        save_file({key: tensors[key].to(dtype) for key in some}, part / file, {"format": "pt"})
        weight_map |= dict.fromkeys(some, file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (part / f"{name}.safetensors.index.{variant}.json").write_text(json.dumps(index))


def first_frame(ready: LoadedModel, **changes: Any) -> torch.Tensor:
    """The picture at fraction 0."""
    recipe = BetweenRecipe(**recipe_for(ready, num_inference_steps=4, **changes))
    return ready.engine.sampler.pictures(recipe, ready.engine.sampler.encode(recipe), [0.0], lambda: False)[0].permute(
        2, 0, 1
    )


def stock_frame(folder: Path, ready: LoadedModel, scheduler: str | None = None) -> torch.Tensor:
    """The same picture by the stock pipeline, which loads the folder itself."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, feature_extractor=None)
    pipeline.set_progress_bar_config(disable=True)
    if scheduler:
        pipeline.scheduler = SCHEDULERS[scheduler].from_config(pipeline.scheduler.config)
    recipe = recipe_for(ready)
    with torch.no_grad():
        painted = pipeline(
            recipe["start"],
            generator=torch.Generator("cpu").manual_seed(recipe["seed"]),
            num_inference_steps=4,
            guidance_scale=recipe["guidance_scale"],
            width=recipe["width"],
            height=recipe["height"],
            output_type="pt",
        )
    return painted.images[0]


@pytest.mark.parametrize("early", [True, False], ids=["variant-number", "number-variant"])
@pytest.mark.parametrize(("variant", "dtype"), [("fp16", "float16"), ("bf16", "bfloat16")])
def test_shards_of_a_variant_are_found_in_both_orders_of_their_names(folder, settings_for, variant, dtype, early):
    """Of networks of both libraries. They are taken for half precision although there is nothing else."""
    whole = load(settings_for(str(folder), dtype=dtype))
    split(folder / "unet", "diffusion_pytorch_model", variant, early)
    split(folder / "text_encoder", "model", variant, early)
    weights = load(settings_for(str(folder), dtype=dtype))
    assert (weights.variants["unet"], weights.variants["text_encoder"]) == (variant, variant)
    for part in ("unet", "text_encoder"):
        tensors = getattr(weights.pipeline, part).state_dict()
        for key, tensor in getattr(whole.pipeline, part).state_dict().items():
            assert torch.equal(tensors[key], tensor), key


@pytest.mark.parametrize("more", [{}, ZERO_SNR], ids=["v-prediction", "zero-snr"])
def test_models_that_predict_v_equal_the_stock_pipeline_in_every_scheduler(folder, settings_for, more):
    """Such as Stable Diffusion 2.1, and models whose schedule ends in pure noise."""
    edit(folder / "model_index.json", scheduler=["diffusers", "DDIMScheduler"])
    (folder / "scheduler" / "scheduler_config.json").write_text(
        json.dumps({"_class_name": "DDIMScheduler", "clip_sample": False, **V_PREDICTION, **more})
    )
    ready = load_model(settings_for(str(folder)))
    assert set(ready.answer.card.schedulers) >= {"DDIM", "DPMSolverMultistep", "UniPC", "Euler"}
    for scheduler in ready.answer.card.schedulers:
        made, expected = first_frame(ready, scheduler=scheduler), stock_frame(folder, ready, scheduler)
        assert torch.allclose(made, expected, atol=1e-5), f"{scheduler}: {(made - expected).abs().max()}"


def test_a_rescaled_schedule_is_used_as_such(folder, settings_for):
    """Otherwise pictures would be grey: the first step must start from pure noise."""
    config = {**V_PREDICTION, **ZERO_SNR}
    for name in ("DDIM", "DPMSolverMultistep", "UniPC", "Euler"):
        rescaled, usual = (for_one_run(name, one, 4).alphas_cumprod[-1] for one in (config, V_PREDICTION))
        assert rescaled < 1e-6 < usual, name


def age(folder: Path) -> None:
    """Make the files what the libraries of 2022 wrote, as on the hub for Stable Diffusion 1.x."""
    edit(
        folder / "model_index.json",
        _diffusers_version="0.2.2",
        image_encoder=None,
        requires_safety_checker=None,
        safety_checker=[None, None],
        feature_extractor=["transformers", "CLIPFeatureExtractor"],
    )
    for part in ("unet", "vae"):
        config = json.loads((folder / part / "config.json").read_text())
        kept = ("_class_name", "act_fn", "attention_head_dim", "block_out_channels", "cross_attention_dim")
        kept += ("down_block_types", "up_block_types", "in_channels", "out_channels", "latent_channels")
        kept += ("layers_per_block", "norm_num_groups", "sample_size")
        old = {name: config[name] for name in kept if name in config} | {"_diffusers_version": "0.2.2"}
        (folder / part / "config.json").write_text(json.dumps(old))
    schedule = {name: V_PREDICTION[name] for name in ("beta_start", "beta_end", "beta_schedule")}
    schedule |= {"_class_name": "PNDMScheduler", "_diffusers_version": "0.2.2", "num_train_timesteps": 1000}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(schedule | {"skip_prk_steps": True}))
    tokenizer = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())
    shutil.rmtree(folder / "tokenizer")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(tokenizer["model"]["vocab"]))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    token = {"__type": "AddedToken", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    config = {name: {**token, "content": content} for name, content in special.items()}
    config |= {"tokenizer_class": "CLIPTokenizer", "model_max_length": 20, "do_lower_case": True, "errors": "replace"}
    config |= {"pad_token": "<|endoftext|>", "add_prefix_space": False, "name_or_path": "openai/clip-vit-large-patch14"}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config))


# The libraries warn about each old field that they correct.
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_files_of_2022_equal_the_stock_pipeline(folder, settings_for):
    """The most used models are as old: no tokenizer.json, few fields in the configurations, no safety checker here."""
    age(folder)
    ready = load_model(settings_for(str(folder)))
    assert ready.answer.card.scheduler == "PNDM"
    made, expected = first_frame(ready), stock_frame(folder, ready)
    assert torch.allclose(made, expected, atol=1e-5), (made - expected).abs().max()


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_weights_in_bin_files_are_refused_with_the_line_that_converts_them(folder, tmp_path, settings_for, part):
    """They can contain programs, so they are not loaded. Some models exist in no other form."""
    [weights] = (folder / part).glob("*.safetensors")
    name = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
    torch.save(load_file(weights), folder / part / name)
    weights.unlink()
    with pytest.raises(UnsuitableModel, match=f"The {part} of copy has its weights in .bin files") as refused:
        load(settings_for(str(folder)))
    _, code, _ = str(refused.value).split('"')
    exec(code.replace("OLD", str(folder)).replace("NEW", str(tmp_path / "new")))
    converted, whole = (getattr(load(settings_for(name)).pipeline, part) for name in (str(tmp_path / "new"), "plain"))
    for key, tensor in whole.state_dict().items():
        assert torch.equal(converted.state_dict()[key], tensor), key
