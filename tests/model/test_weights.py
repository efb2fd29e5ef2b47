"""Which weights are loaded, under which name, and which are refused."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
import torch
from diffusers import DDIMScheduler
from pydantic import ValidationError
from transformers import CLIPTextConfig, CLIPTextModel

from momalisa_model import fingerprints as parts_module
from momalisa_model.batch_invariance import largest_power_of_two
from momalisa_model.fingerprints import fingerprint, made_of
from momalisa_model.lifecycle import load_model
from momalisa_model.model_card import derive_card, read_card
from momalisa_model.model_files import folder_name, folder_revision
from momalisa_model.problems import UnsuitableModel
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.weights import choose_device, load
from momalisa_model.wire import ModelCard
from tests.support.model_server import recipe_for


@pytest.fixture
def copy_of(models, tmp_path):
    """Copies a model's folder, so that the test can damage it."""

    def copied(model: str) -> Path:
        return Path(shutil.copytree(models[model], tmp_path / "copies" / model))

    return copied


def test_limits_are_read_from_the_weights(loaded_model):
    """77 tokens and 8 pixels per latent are not assumed."""
    plain, wide = (loaded_model(model).engine.sampler.weights for model in ("plain", "wide"))
    assert (plain.token_limit, plain.vae_scale_factor) == (20, 2)
    assert (wide.token_limit, wide.vae_scale_factor) == (77, 8)


def test_a_card_is_derived_if_there_is_none(loaded_model):
    """MODEL_ID alone is enough for any Stable Diffusion model."""
    card = derive_card(loaded_model("wide").engine.sampler.weights)
    assert (card.width, card.height, card.size_multiple) == (48, 32, 16)
    assert (card.model, card.scheduler, card.token_limit) == ("wide", "UniPC", 77)
    assert set(card.schedulers) >= {"DDIM", "DPMSolverMultistep", "UniPC", "Euler", "Heun"}


@pytest.mark.parametrize("kind", ["EulerAncestralDiscreteScheduler", "LCMScheduler", "TCDScheduler"])
def test_a_scheduler_that_draws_noise_is_used_and_is_deterministic(copy_of, settings_for, kind):
    """All frames draw the same noise, so a frame depends on its recipe only, and neighbours stay alike."""
    folder = copy_of("plain")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", kind]
    (folder / "model_index.json").write_text(json.dumps(index))
    ready = load_model(settings_for(str(folder)))
    assert ready.answer.card.scheduler in kind
    recipe = BetweenRecipe(**recipe_for(ready))
    leg = ready.engine.sampler.encode(recipe)
    alone = ready.engine.sampler.pictures(recipe, leg, [0.5], lambda: False)
    torch.manual_seed(1)
    near, among, _ = ready.engine.sampler.pictures(recipe, leg, [0.499, 0.5, 0.9], lambda: False)
    assert torch.equal(alone[0], among)
    assert (near - among).abs().mean() < 1e-3


def test_a_folders_revision_is_computed_as_documented(models):
    """Others can compute the revision from the docstring of folder_revision."""
    folder = models["plain"]
    files = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in {".safetensors", ".json", ".txt"}
    )
    whole = hashlib.sha256()
    for name in files:
        whole.update(name.encode() + b"\0" + hashlib.sha256((folder / name).read_bytes()).digest())
    assert folder_revision(folder) == whole.hexdigest()


def test_a_revision_depends_on_the_weights_and_not_on_texts_about_them(copy_of):
    """A card or a README beside the weights changes no pixel; one byte of a tensor does."""
    folder = copy_of("plain")
    before = folder_revision(folder)
    (folder / "README.md").write_text("About this model.")
    (folder / "card.json").write_text("{}")
    assert folder_revision(folder) == before
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert folder_revision(folder) != before


def test_a_pinned_revision_must_match(settings_for, loaded_model):
    """An operator who pins a revision wants these weights or none."""
    revision = loaded_model("plain").answer.card.revision
    assert load(settings_for("plain", model_revision=revision)).revision == revision
    with pytest.raises(UnsuitableModel, match=revision):
        load(settings_for("plain", model_revision="f" * 64))


def test_the_default_number_of_threads_is_a_power_of_two(settings_for):
    """With three, torch divides tensors within a vector register, and a frame's last bits depend on its place."""
    assert [largest_power_of_two(cores) for cores in (1, 2, 3, 4, 6, 8, 12, 64, 96)] == [1, 2, 2, 4, 4, 8, 8, 64, 64]
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        load(settings_for("plain", threads=None))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_missing_folder_is_reported(settings_for, tmp_path):
    """The most common mistake."""
    with pytest.raises(UnsuitableModel, match="MODEL_ID"):
        load(settings_for(str(tmp_path / "nowhere")))


def test_a_folder_that_is_not_a_model_is_reported(settings_for, tmp_path):
    """The message names the missing file."""
    with pytest.raises(UnsuitableModel, match=r"model_index\.json"):
        load(settings_for(str(tmp_path)))


@pytest.mark.parametrize("index", ["{", "[]", "[1]", "7", '"text"', "{}", '{"_class_name": "StableDiffusionPipeline"}'])
def test_a_broken_index_is_reported(copy_of, settings_for, index):
    """For example after an interrupted download, or a mistake in an editor."""
    folder = copy_of("plain")
    (folder / "model_index.json").write_text(index)
    with pytest.raises(UnsuitableModel, match=r"plain (has|is)"):
        load(settings_for(str(folder)))


@pytest.mark.parametrize("damage", ["cut off", "other shapes", "no config", "no numbers"])
def test_broken_weights_are_reported_without_a_path(copy_of, settings_for, damage):
    """The message is sent over HTTP and must not contain paths of the machine."""
    folder = copy_of("plain")
    weights, config = folder / "unet" / "diffusion_pytorch_model.safetensors", folder / "unet" / "config.json"
    if damage == "cut off":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "other shapes":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"block_out_channels": [16, 16]}))
    elif damage == "no config":
        config.unlink()
    else:
        config.write_text(json.dumps(json.loads(config.read_text()) | {"layers_per_block": "one"}))
    with pytest.raises(UnsuitableModel, match="plain could not be loaded") as raised:
        load(settings_for(str(folder)))
    assert str(folder) not in str(raised.value)
    assert raised.value.__cause__, "the log needs the cause"


def test_an_encoder_of_another_width_is_reported(copy_of, models, settings_for):
    """The parts come from two models."""
    folder = copy_of("plain")
    config = folder / "text_encoder" / "config.json"
    shutil.rmtree(folder / "text_encoder")
    text = CLIPTextConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=54
    )
    CLIPTextModel(text).save_pretrained(config.parent)
    with pytest.raises(UnsuitableModel, match="32 wide"):
        load(settings_for(str(folder)))


def test_pickled_weights_are_refused(copy_of, settings_for):
    """A pickle can run code; only safetensors are read."""
    folder = copy_of("plain")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(UnsuitableModel, match="safetensors"):
        load(settings_for(str(folder)))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"_class_name": "KandinskyPipeline"}, "KandinskyPipeline"),
        ({"unet": ["diffusers", "UNet3DConditionModel"]}, "UNet3DConditionModel"),
        ({"text_encoder": ["transformers", "T5EncoderModel"]}, "T5EncoderModel"),
        ({"text_encoder": ["transformers", "CLIPTextModelWithProjection"]}, "CLIPTextModelWithProjection"),
        ({"vae": ["diffusers", "AsymmetricAutoencoderKL"]}, "AutoencoderKL or AutoencoderTiny"),
        ({"vae": None}, "AutoencoderKL or AutoencoderTiny"),
        ({"unet": ["unet", "UNet2DConditionModel"]}, "of diffusers"),
    ],
)
def test_other_classes_than_those_of_the_stock_pipeline_are_refused_by_name(copy_of, settings_for, changes, expected):
    """Before gigabytes are loaded, and not later with an AttributeError."""
    folder = copy_of("plain")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | changes))
    with pytest.raises(UnsuitableModel, match=expected):
        load(settings_for(str(folder)))


def test_a_missing_device_is_reported(settings_for):
    """The message names the setting."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(UnsuitableModel, match="MOMALISA_DEVICE"):
        load(settings_for("plain", device="cuda"))


def test_a_gpu_is_chosen_by_its_number(monkeypatch):
    """Each replica of a machine has its own. A number that is too high is reported, not replaced."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(choose_device(wanted)) for wanted in ("auto", "cuda", "cuda:1")] == ["cuda", "cuda", "cuda:1"]
    with pytest.raises(UnsuitableModel, match="its last one is cuda:1"):
        choose_device("cuda:2")


@pytest.mark.parametrize("wanted", ["cuda:", "cuda:-1", "gpu", "cpu:0", "cuda:1\n"])
def test_other_names_of_devices_are_no_setting(settings_for, wanted):
    """torch would report some of them only when the weights are loaded."""
    with pytest.raises(ValidationError):
        settings_for("plain", device=wanted)


def test_a_card_for_other_weights_is_refused(loaded_model, settings_for, tmp_path):
    """The api would accept walks that this replica renders differently."""
    ready = loaded_model("plain")
    other = ready.answer.card.model_copy(update={"revision": "f" * 64})
    file = tmp_path / "card.json"
    file.write_text(other.model_dump_json())
    with pytest.raises(UnsuitableModel, match="momalisa-model card"):
        read_card(ready.engine.sampler.weights, settings_for("plain", model_card=file))


@pytest.mark.parametrize(
    "change", [{"schedulers": ["PNDM", "Karras"]}, {"size_multiple": 1}, {"token_limit": 77}, {"max_steps": 1000}]
)
def test_a_card_that_allows_more_than_the_weights_can_do_is_refused(loaded_model, settings_for, tmp_path, change):
    """Better at start than as a failure of each walk that uses it."""
    weights = loaded_model("plain").engine.sampler.weights
    # This model was trained on fewer steps than most.
    pipeline = copy.copy(weights.pipeline)
    pipeline.scheduler = DDIMScheduler.from_config(weights.pipeline.scheduler.config, num_train_timesteps=500)
    file = tmp_path / "card.json"
    file.write_text(json.dumps(loaded_model("plain").answer.card.model_dump() | change))
    settings = settings_for("plain", model_card=file)
    (field,) = change
    with pytest.raises(UnsuitableModel, match=field):
        read_card(replace(weights, pipeline=pipeline), settings)


def test_the_card_beside_the_weights_is_used(copy_of, settings_for, loaded_model):
    """The atelier has defaults of its own."""
    folder = copy_of("wide")
    card = loaded_model("wide").answer.card.model_copy(update={"model": "the wide one", "num_inference_steps": 12})
    (folder / "card.json").write_text(card.model_dump_json())
    card = read_card(load(settings_for(str(folder))), settings_for("wide"))
    assert (card.num_inference_steps, card.model) == (12, "the wide one"), "the name of a model is the card's choice"


def test_a_card_with_defaults_outside_its_limits_is_refused(loaded_model):
    """Better at start than for the first visitor."""
    card = loaded_model("plain").answer.card.model_dump()
    with pytest.raises(ValueError, match="width"):
        ModelCard.model_validate({**card, "width": card["width"] + 1})


def test_overrides_replace_derived_fields_except_revision_and_token_limit(loaded_model):
    """For new weights, the texts and defaults of the old card can be used again."""
    overrides = {"num_inference_steps": 12, "about": {"title": "Small"}, "revision": "f" * 40, "token_limit": 1}
    weights = loaded_model("plain").engine.sampler.weights
    card = derive_card(weights, overrides)
    assert (card.num_inference_steps, card.about.title, card.model) == (12, "Small", "plain")
    assert (card.revision, card.token_limit) == (weights.revision, 20)
    assert derive_card(weights, {"model": "small"}).model == "small"


def test_examples_and_words_can_be_overridden(loaded_model):
    """In JSON, pairs and tuples are lists; strict validation must accept these."""
    about = {"examples": [["a red sun", "blue waves"]], "words": ["red", "sun"]}
    card = derive_card(loaded_model("plain").engine.sampler.weights, {"about": about})
    assert (card.about.examples, card.about.words) == ((("a red sun", "blue waves"),), ("red", "sun"))
    again = derive_card(loaded_model("plain").engine.sampler.weights, json.loads(card.model_dump_json()))
    assert again == card


def test_an_invalid_override_is_reported(loaded_model):
    """The message names the field."""
    with pytest.raises(UnsuitableModel, match="num_inference_steps"):
        derive_card(loaded_model("plain").engine.sampler.weights, {"num_inference_steps": "many"})


@pytest.mark.parametrize(
    ("folder", "name"),
    [("/srv/atelier/weights", "atelier"), ("/home/alice/my-model", "my-model"), ("/model", "model"), ("/", "model")],
)
def test_a_folder_is_named_by_its_last_meaningful_part(folder, name):
    """The name is public: it must not contain the user's name, and not be `weights`."""
    assert folder_name(Path(folder)) == name


def test_a_turbo_model_is_recognised_by_its_name_and_logged(copy_of, settings_for):
    """Two steps without guidance would ruin any other model, so an operator must see the guess."""
    folder = copy_of("plain")
    turbo = folder.rename(folder.with_name("sd-turbo"))
    with structlog.testing.capture_logs() as log:
        card = derive_card(load(settings_for(str(turbo))))
    assert (card.num_inference_steps, card.guidance_scale) == (2, 0.0)
    assert any("Turbo" in line["event"] and line["model"] == "sd-turbo" for line in log)


def test_a_fingerprint_changes_with_everything_that_decides_pixels(loaded_model, settings_for, monkeypatch):
    """Replicas with equal fingerprints must return equal bytes."""
    weights, threads = loaded_model("plain").engine.sampler.weights, torch.get_num_threads()
    parts = made_of(weights, 3)
    libraries = {"torch", "diffusers", "transformers", "zlib"}
    assert set(parts) == {"weights", "device", "dtype", "threads", "micro_batch", "processor"} | libraries
    others = [made_of(weights, 4), made_of(replace(weights, revision="f" * 64), 3)]
    others.append(made_of(load(settings_for("plain", dtype="bfloat16")), 3))
    others.append(made_of(replace(weights, device=torch.device("meta")), 3))
    torch.set_num_threads(threads + 1)
    others.append(made_of(weights, 3))
    torch.set_num_threads(threads)
    for library in ("torch", "diffusers", "transformers", "zlib"):
        with monkeypatch.context() as patch:
            version = "ZLIB_RUNTIME_VERSION" if library == "zlib" else "__version__"
            patch.setattr(getattr(parts_module, library), version, "0.0")
            others.append(made_of(weights, 3))
    seen = {fingerprint(parts), *(fingerprint(other) for other in others)}
    assert len(seen) == len(others) + 1
    assert all(len(one) == 16 for one in seen)
    assert made_of(weights, 3) == parts


@pytest.mark.parametrize(("given", "expected"), [(None, "AUTO"), ("", "AUTO"), ("COMPATIBLE", "COMPATIBLE")])
def test_a_mode_of_mkl_that_an_operator_has_chosen_is_kept(given, expected):
    """The service only sets a default. Processors of different makers agree in some modes only."""
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    environment |= {} if given is None else {"MKL_CBWR": given}
    command = [sys.executable, "-c", "import os, momalisa_model; print(os.environ['MKL_CBWR'])"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == expected


def test_another_mode_of_mkl_is_another_fingerprint(loaded_model, monkeypatch):
    """It computes other last bits. The usual mode is not named."""
    weights = loaded_model("plain").engine.sampler.weights
    usual = made_of(weights, 4)
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert made_of(weights, 4) == usual | {"processor": f"{usual['processor']} MKL_CBWR=COMPATIBLE"}


def test_the_revision_of_a_hub_model_is_its_commit(models, tmp_path):
    """Without network, the model is loaded from the cache, and the card names the commit of the tag."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--small"
    shutil.copytree(models["wide"], repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text(commit)
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment |= {"MODEL_ID": "someone/small", "MODEL_REVISION": "v1", "MOMALISA_DEVICE": "cpu"}
    command = [sys.executable, "-m", "momalisa_model.command", "card"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    card = ModelCard.model_validate_json(ended.stdout)
    assert (card.model, card.revision) == ("someone/small", commit)


def test_a_configuration_beside_a_folder_is_refused(models, settings_for):
    """It would have no effect, and the operator would not notice."""
    with pytest.raises(UnsuitableModel, match="MODEL_CONFIG is for a model in a single file"):
        load(settings_for("plain", model_configuration=str(models["wide"])))
