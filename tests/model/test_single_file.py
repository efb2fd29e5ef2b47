"""Models in one .safetensors file, as they are shared most, with the configurations of a model in diffusers format."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from momalisa_model.lifecycle import load_model
from momalisa_model.model_card import read_card
from momalisa_model.problems import DownloadFailed, UnsuitableModel
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.settings import Settings
from momalisa_model.weights import load
from tests.support.hub import COMMIT
from tests.support.model_server import recipe_for
from tests.support.single_files import write_single_file
from tests.support.small_families import sdxl, stable_diffusion

STOCK = {"sd": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Any]:
    """The two text encoders of the SDXL have different widths: that is how diffusers tells them apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {"sd": stable_diffusion(), "sdxl": sdxl(second=32)}


@pytest.fixture(scope="module")
def base(pipelines: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each family its single file, and a folder with its configurations and tokenizers only."""
    base = tmp_path_factory.mktemp("single")
    for name, pipeline in pipelines.items():
        write_single_file(pipeline, base / f"my-{name}.safetensors")
        pipeline.save_pretrained(base / name, safe_serialization=True)
        for weights in (base / name).rglob("*.safetensors"):
            weights.unlink()
    return base


@pytest.fixture
def single(base: Path, settings_for: Callable[..., Settings]) -> Callable[..., Settings]:
    """Settings for the single file of a family with its configurations."""

    def settings(name: str, **more: Any) -> Settings:
        return settings_for(str(base / f"my-{name}.safetensors"), model_configuration=str(base / name), **more)

    return settings


@pytest.mark.parametrize("name", STOCK)
def test_both_ends_equal_the_stock_pipeline_of_the_file(base, single, name):
    """The stock pipeline's from_single_file is what people know it from."""
    ready = load_model(single(name))
    assert ready.card.model == f"my-{name}"
    recipe = BetweenRecipe(**recipe_for(ready, num_inference_steps=2, width=32, height=32))
    made = ready.engine.sampler.pictures(recipe, ready.engine.sampler.encode(recipe), [0.0, 1.0], lambda: False)
    stock = STOCK[name].from_single_file(
        str(base / f"my-{name}.safetensors"), config=str(base / name), local_files_only=True, safety_checker=None
    )
    stock.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 2, "guidance_scale": recipe.guidance_scale, "width": 32, "height": 32}
    for picture, prompt in zip(made, (recipe.start, recipe.end), strict=True):
        generator = torch.Generator("cpu").manual_seed(recipe.seed)
        expected = stock(prompt, generator=generator, output_type="pt", **settings).images[0]
        assert torch.allclose(picture.permute(2, 0, 1), expected, atol=1e-5), (picture - expected).abs().max()


@pytest.mark.parametrize("name", STOCK)
def test_every_tensor_of_the_file_is_where_it_was(pipelines, single, name):
    """Nothing is left at random: the networks equal those that the file was written from."""
    weights = load(single(name))
    for part, network in pipelines[name].components.items():
        if isinstance(network, torch.nn.Module):
            loaded = getattr(weights.pipeline, part).state_dict()
            for key, tensor in network.state_dict().items():
                assert torch.equal(loaded[key], tensor), f"{part}.{key}"


def test_the_revision_changes_with_the_file_and_with_its_configuration(base, single, settings_for, tmp_path):
    """Both decide pixels. Weights that lie beside the configuration and are not used do not."""
    usual = load(single("sd")).revision
    assert load(single("sd", model_revision=usual)).revision == usual
    with pytest.raises(UnsuitableModel, match="my-sd has the revision"):
        load(single("sd", model_revision="f" * 64))
    other = Path(shutil.copytree(base / "sd", tmp_path / "other"))
    file = str(base / "my-sd.safetensors")
    (other / "unet" / "diffusion_pytorch_model.safetensors").touch()
    assert load(settings_for(file, model_configuration=str(other))).revision == usual
    scheduler = other / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"beta_end": 0.013}))
    assert load(settings_for(file, model_configuration=str(other))).revision != usual


def test_half_precision_is_possible(single):
    """On GPUs it is the default. The VAE of SDXL stays in float32."""
    parts = load(single("sdxl", dtype="float16")).pipeline
    assert (parts.unet.dtype, parts.text_encoder_2.dtype, parts.vae.dtype) == (
        torch.float16,
        torch.float16,
        torch.float32,
    )


def test_what_the_file_lacks_comes_from_the_configuration(pipelines, base, settings_for, tmp_path):
    """Some files have the denoiser only. With a whole model as MODEL_CONFIG, its text encoder and VAE are used."""
    pipeline = pipelines["sd"]
    write_single_file(pipeline, tmp_path / "part.safetensors", without=("first_stage_model.", "cond_stage_model."))
    settings = settings_for(str(tmp_path / "part.safetensors"), model_configuration=str(base / "sd"))
    with pytest.raises(UnsuitableModel, match=r"part has no vae \(AutoencoderKL\), and MODEL_CONFIG has no weights"):
        load(settings)
    whole = tmp_path / "whole"
    pipeline.save_pretrained(whole, safe_serialization=True)
    (whole / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    weights = load(settings.model_copy(update={"model_configuration": str(whole)}))
    for part in ("unet", "vae", "text_encoder"):
        tensors = getattr(weights.pipeline, part).state_dict()
        assert all(torch.equal(tensors[key], t) for key, t in getattr(pipeline, part).state_dict().items())


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("model.diffusion_model.middle_block.1.norm", "The unet in cut lacks keys mid_block.attentions.0.norm.bias"),
        ("model.diffusion_model.out.2", "The unet in cut lacks keys conv_out.bias"),
        ("first_stage_model.decoder.mid.attn_1.q", "The vae in cut lacks keys decoder.mid_block.attentions.0.to_q"),
        ("cond_stage_model.transformer.text_model.final_layer_norm", "The text_encoder in cut lacks keys final"),
    ],
)
def test_a_file_that_lacks_tensors_is_refused_by_name(pipelines, base, settings_for, tmp_path, lost, named):
    """The libraries would leave them without numbers."""
    write_single_file(pipelines["sd"], tmp_path / "cut.safetensors", without=(lost,))
    with pytest.raises(UnsuitableModel, match=named):
        load(settings_for(str(tmp_path / "cut.safetensors"), model_configuration=str(base / "sd")))


@pytest.mark.parametrize(("name", "other"), [("sd", "sdxl"), ("sdxl", "sd")])
def test_a_configuration_of_another_family_is_refused(base, settings_for, name, other):
    """The most likely mistake. The sentence names the setting."""
    settings = settings_for(str(base / f"my-{name}.safetensors"), model_configuration=str(base / other))
    with pytest.raises(UnsuitableModel, match=f"in my-{name} .*MODEL_CONFIG"):
        load(settings)


def test_what_is_missing_or_wrong_has_a_sentence(base, settings_for, tmp_path):
    """Each names the setting and what to set. No path is in it, because it is sent over HTTP."""
    file, config = str(base / "my-sd.safetensors"), str(base / "sd")
    (tmp_path / "old.ckpt").touch()
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    cases = {
        (file, None): "my-sd is a single file without configurations. Set MODEL_CONFIG",
        (str(tmp_path / "none.safetensors"), config): "The file in MODEL_ID does not exist",
        (str(tmp_path / "old.ckpt"), config): "must be in safetensors",
        (str(tmp_path / "bad.safetensors"), config): "bad cannot be read as safetensors",
        (file, str(tmp_path / "none")): "The folder in MODEL_CONFIG does not exist",
        (file, str(base)): "MODEL_CONFIG has no readable model_index.json",
    }
    for (model, configuration), sentence in cases.items():
        with pytest.raises(UnsuitableModel, match=sentence) as refused:
            load(settings_for(model, model_configuration=configuration))
        assert str(tmp_path) not in str(refused.value)


def test_a_family_without_single_files_is_refused_before_anything_is_read(base, settings_for, tmp_path):
    """diffusers has no from_single_file for all of them."""
    (tmp_path / "model_index.json").write_text('{"_class_name": "PixArtSigmaPipeline"}')
    settings = settings_for(str(base / "my-sd.safetensors"), model_configuration=str(tmp_path))
    with pytest.raises(UnsuitableModel, match=r"of the family PixArt-Sigma only .* of Stable Diffusion 1\.x"):
        load(settings)


def test_a_card_beside_the_configuration_is_not_used(base, settings_for, tmp_path):
    """It is for the weights there."""
    folder = Path(shutil.copytree(base / "sd", tmp_path / "sd"))
    (folder / "card.json").write_text("{}")
    settings = settings_for(str(base / "my-sd.safetensors"), model_configuration=str(folder))
    assert read_card(load(settings), settings).model == "my-sd"


def test_a_safety_checker_without_weights_is_left_out_and_logged(base, single, settings_for, tmp_path):
    """A folder of configurations names one. Its weights are in no single file."""
    folder = Path(shutil.copytree(base / "sd", tmp_path / "sd"))
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    index |= {"feature_extractor": ["transformers", "CLIPImageProcessor"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    with structlog.testing.capture_logs() as log:
        weights = load(settings_for(str(base / "my-sd.safetensors"), model_configuration=str(folder)))
    assert weights.safety_checker is None
    assert any("safety checker" in line["event"] for line in log)


def test_file_and_configuration_can_be_on_the_hub(pipelines, base, hub_of, settings_for, tmp_path):
    """As owner/name/file.safetensors. Of the configuration, only small files are downloaded."""
    pipelines["sd"].save_pretrained(tmp_path / "sd", safe_serialization=True)
    (tmp_path / "files").mkdir()
    file = Path(shutil.copy(base / "my-sd.safetensors", tmp_path / "files" / "my-sd.safetensors"))
    with hub_of(tmp_path / "files") as hub:
        hub.push("someone/base", tmp_path / "sd", COMMIT, "main", "v1")
        where = {"model_id": "someone/small/my-sd.safetensors", "model_configuration": "someone/base@v1"}
        weights = load(settings_for("").model_copy(update=where))
        assert [path for path in hub.downloaded if path.endswith("safetensors")] == [file.name]
        for wrong, sentence in (
            ("someone/bas", r"no model someone/bas, or it is private\. Check MODEL_CONFIG"),
            ("someone/base@v9", r"someone/base has no revision v9\. Use .* in MODEL_CONFIG"),
        ):
            with pytest.raises(DownloadFailed, match=sentence):
                load(settings_for("").model_copy(update=where | {"model_configuration": wrong}))
        hub.down = True
        assert load(settings_for("").model_copy(update=where)).revision == weights.revision
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert weights.revision == hashlib.sha256(f"{sha256}\n{COMMIT}".encode()).hexdigest()
    assert weights.model == "someone/small/my-sd.safetensors"
