"""What is loaded, under which name, and what is refused in a sentence."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
import torch
from diffusers import DDIMScheduler
from transformers import CLIPTextConfig, CLIPTextModel

from momalisa_model import model_card as card_module
from momalisa_model.batch_invariance import largest_power_of_two
from momalisa_model.model_card import derive_card, fingerprint, made_of, read_card
from momalisa_model.problems import UnsuitableModel
from momalisa_model.weights import folder_name, folder_revision, load
from momalisa_model.wire import ModelCard


@pytest.fixture
def copy_of(models, tmp_path):
    """A folder of one's own to spoil."""

    def copied(model: str) -> Path:
        return Path(shutil.copytree(models[model], tmp_path / "copies" / model))

    return copied


def test_everything_is_read_from_the_weights(loaded_model):
    """Neither 77 tokens nor 4 channels nor 8 pixels a latent are assumed."""
    plain, wide = (loaded_model(model).sampler.weights for model in ("plain", "wide"))
    assert (plain.token_limit, plain.latent_channels, plain.vae_scale_factor) == (20, 4, 2)
    assert (wide.token_limit, wide.latent_channels, wide.vae_scale_factor) == (77, 12, 8)


def test_a_card_is_derived_where_none_is_given(loaded_model):
    """Any Stable Diffusion can be walked with MODEL_ID alone."""
    card = derive_card(loaded_model("wide").sampler.weights)
    assert (card.width, card.height, card.size_multiple) == (48, 32, 16)
    assert (card.model, card.scheduler, card.token_limit) == ("wide", "UniPC", 77)
    assert set(card.schedulers) >= {"DDIM", "DPMSolverMultistep", "UniPC", "Euler", "Heun"}


def test_a_scheduler_that_draws_noise_is_never_offered(copy_of, settings_for):
    """Such a picture is not a function of its recipe; the model is walked with another scheduler."""
    folder = copy_of("plain")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "EulerAncestralDiscreteScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with structlog.testing.capture_logs() as log:
        card = derive_card(load(settings_for(str(folder))))
    assert card.scheduler == "Euler"
    assert any(line.get("instead") == "Euler" for line in log), "an operator can see that it was swapped"
    assert not any("Ancestral" in name for name in card.schedulers)


def test_a_folders_revision_is_the_digest_that_its_docstring_describes(models):
    """The recipe of the revision is written down, so that others can compute it."""
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


def test_a_revision_follows_the_weights_and_not_what_is_written_about_them(copy_of):
    """A card or a README beside the weights changes no pixel; one byte of a tensor does."""
    folder = copy_of("plain")
    before = folder_revision(folder)
    (folder / "README.md").write_text("Paints nothing yet.")
    (folder / "card.json").write_text("{}")
    assert folder_revision(folder) == before
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert folder_revision(folder) != before


def test_a_pinned_revision_is_held(settings_for, loaded_model):
    """Whoever pins weights wants these or none."""
    revision = loaded_model("plain").answer.card.revision
    assert load(settings_for("plain", model_revision=revision)).revision == revision
    with pytest.raises(UnsuitableModel, match=revision):
        load(settings_for("plain", model_revision="f" * 64))


def test_threads_are_a_power_of_two_where_nobody_sets_them(settings_for):
    """With three, torch cuts tensors in the midst of a vector register, and a frame's place shows in its last bits."""
    assert [largest_power_of_two(cores) for cores in (1, 2, 3, 4, 6, 8, 12, 64, 96)] == [1, 2, 2, 4, 4, 8, 8, 64, 64]
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        load(settings_for("plain", threads=None))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_missing_folder_is_a_sentence(settings_for, tmp_path):
    """The first mistake everyone makes."""
    with pytest.raises(UnsuitableModel, match="MODEL_ID"):
        load(settings_for(str(tmp_path / "nowhere")))


def test_a_folder_that_is_no_model_is_a_sentence(settings_for, tmp_path):
    with pytest.raises(UnsuitableModel, match=r"model_index\.json"):
        load(settings_for(str(tmp_path)))


@pytest.mark.parametrize("index", ["{", "[]", "[1]", "7", '"text"', "{}", '{"_class_name": "StableDiffusionPipeline"}'])
def test_a_broken_index_is_a_sentence(copy_of, settings_for, index):
    """A download that broke off, or a file that somebody edited."""
    folder = copy_of("plain")
    (folder / "model_index.json").write_text(index)
    with pytest.raises(UnsuitableModel, match=r"plain (has|is)"):
        load(settings_for(str(folder)))


@pytest.mark.parametrize("damage", ["cut off", "other shapes", "no config", "no numbers"])
def test_broken_weights_are_a_sentence_without_a_path(copy_of, settings_for, damage):
    """It is told over HTTP, where nobody should learn how the machine's folders are named."""
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
    with pytest.raises(UnsuitableModel, match="plain could not be loaded") as told:
        load(settings_for(str(folder)))
    assert str(folder) not in str(told.value)
    assert told.value.__cause__, "for the log"


def test_an_encoder_that_the_unet_does_not_understand_is_a_sentence(copy_of, models, settings_for):
    """Parts put together from two models."""
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
    ("changes", "said"),
    [
        ({"_class_name": "StableDiffusionXLPipeline"}, "StableDiffusionXLPipeline"),
        ({"unet": ["diffusers", "UNet3DConditionModel"]}, "UNet3DConditionModel"),
        ({"text_encoder": ["transformers", "T5EncoderModel"]}, "T5EncoderModel"),
        ({"text_encoder": ["transformers", "CLIPTextModelWithProjection"]}, "CLIPTextModelWithProjection"),
        ({"vae": ["diffusers", "AsymmetricAutoencoderKL"]}, "AutoencoderKL or AutoencoderTiny"),
        ({"vae": None}, "AutoencoderKL or AutoencoderTiny"),
        ({"unet": ["unet", "UNet2DConditionModel"]}, "of diffusers"),
    ],
)
def test_what_is_no_stable_diffusion_is_refused_by_name(copy_of, settings_for, changes, said):
    """Before gigabytes are read, and not as an AttributeError after."""
    folder = copy_of("plain")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | changes))
    with pytest.raises(UnsuitableModel, match=said):
        load(settings_for(str(folder)))


def test_a_device_that_is_not_there_is_a_sentence(settings_for):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(UnsuitableModel, match="MOMALISA_DEVICE"):
        load(settings_for("plain", device="cuda"))


def test_a_card_for_other_weights_is_refused(loaded_model, settings_for, tmp_path):
    """The api would take in walks that this replica paints otherwise."""
    ready = loaded_model("plain")
    other = ready.answer.card.model_copy(update={"revision": "f" * 64})
    file = tmp_path / "card.json"
    file.write_text(other.model_dump_json())
    with pytest.raises(UnsuitableModel, match="momalisa-model card"):
        read_card(ready.sampler.weights, settings_for("plain", model_card=file))


@pytest.mark.parametrize(
    "promise", [{"schedulers": ["PNDM", "LCM"]}, {"size_multiple": 1}, {"token_limit": 77}, {"max_steps": 1000}]
)
def test_a_card_that_promises_what_the_weights_cannot_do_is_refused(loaded_model, settings_for, tmp_path, promise):
    """Better at start than as a failure of each walk that takes the promise up."""
    weights = loaded_model("plain").sampler.weights
    # One that was trained on fewer steps than most.
    scheduler = DDIMScheduler.from_config(weights.pipeline.scheduler.config, num_train_timesteps=500)
    file = tmp_path / "card.json"
    file.write_text(json.dumps(loaded_model("plain").answer.card.model_dump() | promise))
    settings = settings_for("plain", model_card=file)
    (field,) = promise
    with pytest.raises(UnsuitableModel, match=field):
        read_card(
            replace(weights, pipeline=SimpleNamespace(**vars(weights.pipeline) | {"scheduler": scheduler})), settings
        )


def test_the_card_beside_the_weights_is_taken(copy_of, settings_for, loaded_model):
    """The embedded model brings its own defaults."""
    folder = copy_of("wide")
    card = loaded_model("wide").answer.card.model_copy(update={"model": "the wide one", "num_inference_steps": 12})
    (folder / "card.json").write_text(card.model_dump_json())
    card = read_card(load(settings_for(str(folder))), settings_for("wide"))
    assert (card.num_inference_steps, card.model) == (12, "the wide one"), "a card names its model as it likes"


def test_a_card_whose_defaults_it_forbids_itself_is_refused(loaded_model):
    """Better found at start than by the first visitor."""
    card = loaded_model("plain").answer.card.model_dump()
    with pytest.raises(ValueError, match="width"):
        ModelCard.model_validate({**card, "width": card["width"] + 1})


def test_overrides_are_kept_and_what_the_weights_say_is_not_theirs_to_change(loaded_model):
    """A card for new weights from the words and defaults of the old one."""
    overrides = {"num_inference_steps": 12, "about": {"title": "Small"}, "revision": "f" * 40, "token_limit": 1}
    weights = loaded_model("plain").sampler.weights
    card = derive_card(weights, overrides)
    assert (card.num_inference_steps, card.about.title, card.model) == (12, "Small", "plain")
    assert (card.revision, card.token_limit) == (weights.revision, 20)
    assert derive_card(weights, {"model": "small"}).model == "small"


def test_examples_and_words_are_overrides_too(loaded_model):
    """A card is JSON, where a walk is a list: the strict tuples of Python must not stand in its way."""
    about = {"examples": [["a red sun", "blue waves"]], "words": ["red", "sun"]}
    card = derive_card(loaded_model("plain").sampler.weights, {"about": about})
    assert (card.about.examples, card.about.words) == ((("a red sun", "blue waves"),), ("red", "sun"))
    again = derive_card(loaded_model("plain").sampler.weights, json.loads(card.model_dump_json()))
    assert again == card


def test_a_wish_that_cannot_be_is_a_sentence(loaded_model):
    with pytest.raises(UnsuitableModel, match="num_inference_steps"):
        derive_card(loaded_model("plain").sampler.weights, {"num_inference_steps": "many"})


@pytest.mark.parametrize(
    ("folder", "name"),
    [("/srv/atelier/weights", "atelier"), ("/home/alice/my-model", "my-model"), ("/model", "model"), ("/", "model")],
)
def test_a_folder_is_named_by_its_last_part_that_says_something(folder, name):
    """What is published: neither whose home a model lies in, nor a word that every folder of weights has."""
    assert folder_name(Path(folder)) == name


def test_a_turbo_model_is_guessed_by_its_name_and_the_log_says_so(copy_of, settings_for):
    """Two steps without guidance would ruin any other model: who meant something else must be able to see why."""
    folder = copy_of("plain")
    turbo = folder.rename(folder.with_name("sd-turbo"))
    with structlog.testing.capture_logs() as log:
        card = derive_card(load(settings_for(str(turbo))))
    assert (card.num_inference_steps, card.guidance_scale) == (2, 0.0)
    assert any("Turbo" in line["event"] and line["model"] == "sd-turbo" for line in log)


def test_a_fingerprint_changes_with_anything_that_decides_pixels(loaded_model, settings_for, monkeypatch):
    """Equal fingerprints are a promise of equal bytes."""
    weights, threads = loaded_model("plain").sampler.weights, torch.get_num_threads()
    parts = made_of(weights, 3)
    libraries = {"torch", "diffusers", "transformers", "pillow"}
    assert set(parts) == {"weights", "device", "dtype", "threads", "micro_batch", "processor"} | libraries
    others = [made_of(weights, 4), made_of(replace(weights, revision="f" * 64), 3)]
    others.append(made_of(load(settings_for("plain", dtype="bfloat16")), 3))
    others.append(made_of(replace(weights, device=torch.device("meta")), 3))
    torch.set_num_threads(threads + 1)
    others.append(made_of(weights, 3))
    torch.set_num_threads(threads)
    for library in (card_module.torch, card_module.diffusers, card_module.transformers, card_module.PIL):
        with monkeypatch.context() as patch:
            patch.setattr(library, "__version__", "0.0")
            others.append(made_of(weights, 3))
    seen = {fingerprint(parts), *(fingerprint(other) for other in others)}
    assert len(seen) == len(others) + 1
    assert all(len(one) == 16 for one in seen)
    assert made_of(weights, 3) == parts


def test_a_hub_model_goes_by_its_commit(models, tmp_path):
    """A hub id, a tag and no network: what the cache holds is loaded, and the card names the commit it stands for."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--small"
    shutil.copytree(models["wide"], repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text(commit)
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment |= {"MODEL_ID": "someone/small", "MODEL_REVISION": "v1", "MOMALISA_DEVICE": "cpu"}
    command = [sys.executable, "-m", "momalisa_model.app", "card"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    card = ModelCard.model_validate_json(told.stdout)
    assert (card.model, card.revision) == ("someone/small", commit)
