"""A field of any configuration may be null or missing: the model renders all the same, or is refused in a sentence."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from momalisa_model.lifecycle import load_model
from momalisa_model.model_card import derive_card
from momalisa_model.problems import UnsuitableModel
from momalisa_model.settings import Settings
from momalisa_model.weights import load
from tests.support.small_models import with_safety_checker

CONFIGS = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "tokenizer/tokenizer_config.json",
    "scheduler/scheduler_config.json",
    "safety_checker/config.json",
    "feature_extractor/preprocessor_config.json",
    "model_index.json",
)
CASES = 10
SIZES = {"width": 32, "height": 32, "min_size": 16, "max_size": 64}


@pytest.fixture(scope="module")
def whole(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain model with a safety checker."""
    return with_safety_checker(models["plain"], tmp_path_factory.mktemp("whole") / "whole", 1.1)


@pytest.fixture
def model_with(whole: Path, tmp_path: Path) -> Callable[..., str]:
    """A copy of the model with another configuration."""

    def changed(file: str, config: dict[str, Any]) -> str:
        folder = Path(shutil.copytree(whole, tmp_path / "whole", dirs_exist_ok=True))
        for unchanged in CONFIGS:
            shutil.copy(whole / unchanged, folder / unchanged)
        (folder / file).write_text(json.dumps(config))
        return str(folder)

    return changed


def config_of(folder: Path, file: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / file).read_text())
    return config


def reason_why_refused(settings: Settings) -> str | None:
    """What /readyz would say; None if the replica gets ready."""
    try:
        load_model(settings)
    except UnsuitableModel as refused:
        return str(refused)
    return None


def test_random_fields_that_are_null_or_missing_give_a_sentence_if_anything(whole, model_with, settings_for):
    """Some of all fields of all parts. Whatever the libraries raise, an operator reads what is wrong."""
    fields = [(file, field) for file in CONFIGS for field in config_of(whole, file)]
    chance = random.Random(13)
    for file, field in chance.sample(fields, CASES):
        config = config_of(whole, file)
        without = {name: value for name, value in config.items() if name != field}
        folder = model_with(file, chance.choice([without, config | {field: None}]))
        sentence = reason_why_refused(settings_for(folder))
        assert sentence is None or len(sentence.split()) > 5, (file, field)
        assert folder not in (sentence or ""), "paths of the machine belong in its log only"


def test_a_unet_without_sample_size_needs_sizes_in_a_card(whole, model_with, settings_for):
    """The library allows it; only the card's default sizes are derived from it."""
    file = "unet/config.json"
    settings = settings_for(model_with(file, config_of(whole, file) | {"sample_size": None}))
    weights = load(settings)
    with pytest.raises(UnsuitableModel, match=r"no sample_size.* width, height, min_size, max_size in a model card"):
        derive_card(weights)
    with pytest.raises(UnsuitableModel, match=r"no sample_size.* set max_size in a model card"):
        derive_card(weights, {name: SIZES[name] for name in SIZES if name != "max_size"})
    card = derive_card(weights, SIZES)
    assert (card.width, card.size_multiple) == (32, 8)


@pytest.mark.parametrize(
    ("part", "field"),
    [("vae", "scaling_factor"), ("vae", "latent_channels"), ("unet", "in_channels"), ("unet", "block_out_channels")],
)
def test_a_part_and_its_missing_field_are_named(whole, model_with, settings_for, part, field):
    """Those that this service reads itself."""
    file = f"{part}/config.json"
    with pytest.raises(UnsuitableModel, match=f"{part} of whole") as refused:
        load(settings_for(model_with(file, config_of(whole, file) | {field: None})))
    assert refused.value.__cause__ or field in str(refused.value), "the sentence names the field, or the log the cause"


def test_a_field_that_only_the_librarys_constructor_reads_gives_a_sentence_too(whole, model_with, settings_for):
    """The parts are loaded, but cannot be put together."""
    file = "unet/config.json"
    with pytest.raises(UnsuitableModel, match="The parts of whole could not be put together"):
        load(settings_for(model_with(file, config_of(whole, file) | {"_diffusers_version": None})))


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("model_index.json", "[" * 50_000, "whole has no readable model_index.json"),
        ("scheduler/scheduler_config.json", "[" * 50_000, "whole has no readable scheduler/scheduler_config.json"),
        ("tokenizer/tokenizer_config.json", '{"model_max_length": "77"}', "The model_max_length .* is not a number"),
    ],
)
def test_odd_json_gives_a_sentence(whole, tmp_path, settings_for, file, content, sentence):
    """`momalisa-model card` would print a traceback."""
    folder = Path(shutil.copytree(whole, tmp_path / "whole"))
    (folder / file).write_text(content)
    with pytest.raises(UnsuitableModel, match=sentence):
        load_model(settings_for(str(folder)))


@pytest.mark.parametrize("files", [("tokenizer.json",), ("tokenizer.json", "tokenizer_config.json")])
def test_a_tokenizer_without_its_words_is_refused(whole, tmp_path, settings_for, files):
    """The library makes an empty one, for which every word is unknown: all prompts would make the same picture."""
    folder = Path(shutil.copytree(whole, tmp_path / "whole"))
    for file in files:
        (folder / "tokenizer" / file).unlink()
    with pytest.raises(UnsuitableModel, match="The tokenizer of whole knows no words"):
        load(settings_for(str(folder)))


def test_a_tokenizer_with_more_words_than_the_text_encoder_is_refused(whole, tmp_path, settings_for):
    """A prompt with one of them would be a failure on the device, after which a GPU renders nothing any more."""
    folder = Path(shutil.copytree(whole, tmp_path / "whole"))
    file = folder / "tokenizer" / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"]["unheard"] = 5000
    file.write_text(json.dumps(content))
    with pytest.raises(UnsuitableModel, match="The tokenizer of whole has 5001 tokens, but its text encoder knows"):
        load(settings_for(str(folder)))
