"""Which files of a model are read or downloaded: the index first, then the weights in the variant that fits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from diffusers import StableDiffusionPipeline

from momalisa_model.fingerprints import fingerprint, made_of
from momalisa_model.lifecycle import load_model
from momalisa_model.problems import UnsuitableModel
from momalisa_model.weights import load
from tests.support.hub import COMMIT
from tests.support.small_models import with_safety_checker

PLAIN = "unet/diffusion_pytorch_model.safetensors"
FP16 = "unet/diffusion_pytorch_model.fp16.safetensors"


@pytest.fixture(scope="module")
def half(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain model with a safety checker, whose networks have weights of the variant fp16 only."""
    base = tmp_path_factory.mktemp("half")
    whole = with_safety_checker(models["plain"], base / "whole", 1.1)
    pipeline = StableDiffusionPipeline.from_pretrained(whole, dtype=torch.float16)
    pipeline.save_pretrained(base / "half", variant="fp16", safe_serialization=True)
    assert not (base / "half" / PLAIN).exists()
    return base / "half"


@pytest.fixture
def both(half: Path, tmp_path: Path) -> Path:
    """The same with plain weights beside them."""
    folder = tmp_path / "both"
    shutil.copytree(half.parent / "whole", folder)
    return Path(shutil.copytree(half, folder, dirs_exist_ok=True))


def test_a_model_that_cannot_be_used_is_refused_before_its_weights_are_downloaded(
    models, tmp_path, hub_of, settings_for
):
    """Somebody tries MODEL_ID with a model of another family: gigabytes for one sentence."""
    folder = Path(shutil.copytree(models["plain"], tmp_path / "other"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "KandinskyPipeline"}))
    with hub_of(folder) as hub, pytest.raises(UnsuitableModel, match="someone/small is a KandinskyPipeline"):
        load(settings_for("someone/small"))
    assert hub.downloaded == ["model_index.json"]


def test_a_folder_that_cannot_be_used_is_refused_before_it_is_hashed(models, tmp_path, settings_for):
    """The hash reads every byte of the weights. Here they cannot be read at all."""
    folder = Path(shutil.copytree(models["plain"], tmp_path / "other"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "KandinskyPipeline"}))
    with pytest.raises(UnsuitableModel, match="other is a KandinskyPipeline"):
        load(settings_for(str(folder), model_revision="f" * 64))


def test_a_model_of_the_hub_is_downloaded_once_and_used_without_a_connection(models, hub_of, settings_for):
    """Its revision is the commit, and the cache is enough for the next start."""
    with hub_of(models["plain"]) as hub:
        weights = load(settings_for("someone/small"))
        assert (weights.model, weights.revision, weights.variants["unet"]) == ("someone/small", COMMIT, None)
        assert PLAIN in hub.downloaded
        hub.downloaded.clear()
        load(settings_for("someone/small", model_revision=COMMIT))
        assert hub.downloaded == []
        huggingface_hub.constants.ENDPOINT = "http://127.0.0.1:1"
        assert load(settings_for("someone/small")).revision == COMMIT


@pytest.mark.parametrize(("dtype", "expected"), [("float32", PLAIN), ("float16", FP16), ("bfloat16", FP16)])
def test_only_the_variant_that_fits_the_precision_is_downloaded(both, hub_of, settings_for, dtype, expected):
    """A GPU computes in half precision: with the variant, it downloads half as much."""
    with hub_of(both) as hub:
        weights = load(settings_for("someone/small", dtype=dtype))
    assert [path for path in hub.downloaded if path.startswith("unet/") and path.endswith("safetensors")] == [expected]
    assert "safety_checker/model.safetensors" in hub.downloaded, "the checker always computes in float32"
    assert weights.pipeline.unet.dtype == getattr(torch, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_model_with_nothing_but_the_variant_fp16_gets_ready(half, settings_for, dtype):
    """Some models exist in no other form, on the hub or as a folder."""
    ready = load_model(settings_for(str(half), dtype=dtype))
    assert set(ready.engine.sampler.weights.variants.values()) == {"fp16"}
    assert ready.answer.made_of["variants"] == "safety_checker fp16, text_encoder fp16, unet fp16, vae fp16"


def test_another_variant_is_another_fingerprint(both, settings_for):
    """It may hold other numbers than the plain weights. A model without variants keeps its fingerprint."""
    plain, half = (made_of(load(settings_for(str(both), dtype=dtype)), 4) for dtype in ("float32", "float16"))
    assert "variants" not in plain
    assert fingerprint(half) != fingerprint({**half, "variants": ""})


def test_a_variant_in_shards_is_found(both, settings_for):
    """Large networks are saved in several files."""
    unet = StableDiffusionPipeline.from_pretrained(both, variant="fp16", dtype=torch.float16).unet
    shutil.rmtree(both / "unet")
    unet.save_pretrained(both / "unet", variant="fp16", max_shard_size="20KB")
    assert len(list((both / "unet").glob("*.fp16-*.safetensors"))) > 1
    assert load(settings_for(str(both))).variants["unet"] == "fp16"


def test_weights_of_other_variants_only_are_refused_by_name(both, settings_for):
    """Such as the average of a training, which nobody asked for."""
    (both / PLAIN).unlink()
    (both / FP16).rename(both / "unet" / "diffusion_pytorch_model.ema.safetensors")
    with pytest.raises(UnsuitableModel, match=r"The unet of both has no weights in safetensors but .* variant ema"):
        load(settings_for(str(both)))
