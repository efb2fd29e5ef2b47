"""Adapters and another VAE: they equal the stock pipeline with them, are part of the card, or are refused."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DiffusionPipeline
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from momalisa_model.adapter_files import find_adapters
from momalisa_model.adapters import fuse_and_learn
from momalisa_model.engines.sampler import Sampler
from momalisa_model.families import FAMILIES
from momalisa_model.fingerprints import made_of
from momalisa_model.lifecycle import load_model
from momalisa_model.model_card import derive_card, read_card
from momalisa_model.model_files import folder_revision
from momalisa_model.model_recipe import sources_of
from momalisa_model.problems import UnsuitableModel
from momalisa_model.prompts import filled
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.settings import Settings
from momalisa_model.sources import Source, parse_source, parse_sources
from momalisa_model.weights import Weights, load
from momalisa_model.wire import ModelCard
from tests.support.hub import COMMIT
from tests.support.single_files import write_single_file
from tests.support.small_adapters import save_as_kohya, save_inversion, save_lora, save_vae
from tests.support.small_families import SMALL_FAMILIES, WIDTH, small_family

SIZES = {"width": 32, "height": 32, "min_size": 32, "max_size": 64, "micro_batch": 2}
START, END = "a red sunburst", "blue waves"
# The parts of each family's pipeline that the LoRAs here are for.
PARTS = {"sd": ["unet", "text_encoder"], "sdxl": ["unet", "text_encoder", "text_encoder_2"], "klein": ["transformer"]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models, a LoRA for each, two textual inversions and two VAEs."""
    base = tmp_path_factory.mktemp("adapters")
    made = {name: base / name for name in (*PARTS, "pixart-sigma")}
    for name, folder in made.items():
        small_family(name).save_pretrained(folder, safe_serialization=True)
    for name, parts in PARTS.items():
        made[f"{name} lora"] = base / f"{name}-style.safetensors"
        save_lora(made[f"{name} lora"], name, parts)
    made["other lora"] = base / "other.safetensors"
    save_lora(made["other lora"], "sd", ["unet"], seed=2)
    made["inversion"], made["two inversions"] = base / "learned_embeds.safetensors", base / "Odd-Cat.safetensors"
    save_inversion(made["inversion"], 3, ["<cat-toy>"])
    save_inversion(made["two inversions"], 2, ["clip_l", "clip_g"])
    return made | {"tiny vae": save_vae(base / "tiny", True), "kl vae": save_vae(base / "kl", False)}


def settings(model: Path | str, adapters: object = None, **more: Any) -> Settings:
    given = None if adapters is None else str(adapters)
    return Settings(**{"model_id": str(model), "device": "cpu", "threads": 1, "model_adapters": given, **more})


def recipe_of(weights: Weights, **changes: Any) -> BetweenRecipe:
    card = derive_card(weights, SIZES)
    same = {name: getattr(card, name) for name in ("width", "height", "scheduler", "model", "revision")}
    usual = {"start": START, "end": END, "negative_prompt": "", "seed": 7, "num_inference_steps": 2}
    return BetweenRecipe(**(usual | {"guidance_scale": 4.0} | same | changes))


def ends(weights: Weights, **changes: Any) -> np.ndarray:
    """Both ends of a leg: (2, height, width, 3)."""
    sampler, recipe = Sampler(weights, 2), recipe_of(weights, **changes)
    return sampler.pictures(recipe, sampler.encode(recipe), [0.0, 1.0], lambda: False).numpy()


def stock(folder: Path, **more: Any) -> Any:
    pipeline = DiffusionPipeline.from_pretrained(folder, **more)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stock_pictures(pipeline: Any, prompts: Sequence[str]) -> np.ndarray:
    same = {"width": 32, "height": 32, "num_inference_steps": 2, "guidance_scale": 4.0, "output_type": "np"}
    return np.stack(
        [pipeline(prompt=prompt, generator=torch.Generator().manual_seed(7), **same).images[0] for prompt in prompts]
    )


def assert_same(rendered: np.ndarray, expected: np.ndarray, other: np.ndarray) -> None:
    """Equal to what is expected, and not to the pictures without what is tested."""
    assert np.abs(rendered - expected).max() <= 1e-5
    assert np.abs(rendered - other).max() > 1e-3


@pytest.mark.parametrize("family", PARTS)
def test_a_lora_renders_what_the_stock_pipeline_renders_with_it(folders, family):
    """In the denoiser and in all text encoders, with half of its weight."""
    weights = load(settings(folders[family], f"{folders[f'{family} lora']}:0.5"))
    pipeline, prompts = stock(folders[family]), filled(weights, START, END)
    plain = stock_pictures(pipeline, prompts)
    pipeline.load_lora_weights(folders[f"{family} lora"], adapter_name="style")
    pipeline.set_adapters("style", 0.5)
    assert_same(ends(weights), stock_pictures(pipeline, prompts), plain)


@pytest.mark.parametrize("family", [name for name in SMALL_FAMILIES if name != "pixart-sigma"])
def test_each_weight_of_a_network_is_its_own_and_that_of_the_lora(tmp_path, family):
    """In every family. Computed here from the file: the stock pipeline goes through the same library."""
    pipeline, denoiser = small_family(family), FAMILIES[type(small_family(family)).__name__].denoiser
    parts = [denoiser, *(["text_encoder"] if denoiser == "unet" else [])]
    lora = save_lora(tmp_path / "style.safetensors", family, parts)
    assert_adds(pipeline, parts, tmp_path / "style.safetensors", lora, times=-2)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_a_lora_by_kohya_is_scaled_as_it_says(tmp_path, family):
    """Its alpha over its rank, 3, is a factor of its own."""
    lora = save_lora(tmp_path / "style.safetensors", family, PARTS[family])
    save_as_kohya(tmp_path / "kohya.safetensors", lora, alpha=1.5)
    assert_adds(small_family(family), PARTS[family], tmp_path / "kohya.safetensors", lora, times=-2 * 0.5)


def assert_adds(pipeline: Any, parts: Sequence[str], file: Path, lora: dict[str, torch.Tensor], times: float) -> None:
    """A file with the weight -2 adds all layers of a LoRA so many times, and changes nothing else."""
    before = {part: copy.deepcopy(getattr(pipeline, part).state_dict()) for part in parts}
    fuse_and_learn(pipeline, find_adapters(f"{file}:-2", lambda _: None), "small")
    for part in parts:
        after = getattr(pipeline, part).state_dict()
        assert before[part].keys() == after.keys()
        for name, value in before[part].items():
            layer = f"{part}.{name.removesuffix('.weight')}"
            if f"{layer}.lora_A.weight" in lora:
                value = value + times * lora.pop(f"{layer}.lora_B.weight") @ lora.pop(f"{layer}.lora_A.weight")
            assert (value - after[name]).abs().max() <= 1e-5, name
    assert lora == {}, "the whole file is used"


def test_several_loras_add_up_and_weight_zero_adds_nothing(folders):
    """The order of their sums is that of the setting."""
    first, second = folders["sd lora"], folders["other lora"]
    plain, none, both = (
        load(settings(folders["sd"], list_)) for list_ in (None, f"{first}:0", f"{first}:.3, {second}:.7")
    )
    assert np.array_equal(ends(plain), ends(none))
    pipeline = stock(folders["sd"])
    pipeline.load_lora_weights(first, adapter_name="first")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is another one already
        pipeline.load_lora_weights(second, adapter_name="second")
    pipeline.set_adapters(["first", "second"], [0.3, 0.7])
    assert_same(ends(both), stock_pictures(pipeline, [START, END]), ends(plain))


def test_a_lora_leaves_no_layers_behind(folders):
    """What comes after loading (compiling, offloading, batch invariance) finds the networks that it knows."""
    plain, fused = (load(settings(folders["sdxl"], lora)).pipeline for lora in (None, folders["sdxl lora"]))
    for part in PARTS["sdxl"]:
        kinds = [[type(module) for module in getattr(one, part).modules()] for one in (plain, fused)]
        assert kinds[0] == kinds[1]


def test_a_textual_inversion_is_a_word_of_prompts(folders):
    """One of three vectors, with its token in the file."""
    weights = load(settings(folders["sd"], folders["inversion"]))
    pipeline, prompts = stock(folders["sd"]), ["a red <cat-toy>", "<cat-toy> waves"]
    plain = stock_pictures(pipeline, prompts)
    pipeline.load_textual_inversion(folders["inversion"])
    rendered = ends(weights, start=prompts[0], end="<CAT-TOY> waves")
    assert_same(rendered, stock_pictures(pipeline, prompts), plain)


def test_a_textual_inversion_of_sdxl_is_for_both_text_encoders(folders):
    """Its token is the name of the file, in any case of letters."""
    weights = load(settings(folders["sdxl"], folders["two inversions"]))
    pipeline, prompts, tensors = (
        stock(folders["sdxl"]),
        ["a odd-cat", "odd-cat b"],
        load_file(folders["two inversions"]),
    )
    plain = stock_pictures(pipeline, prompts)
    for key, number in (("clip_l", ""), ("clip_g", "_2")):
        encoder, tokenizer = (getattr(pipeline, part + number) for part in ("text_encoder", "tokenizer"))
        pipeline.load_textual_inversion(tensors[key], token="odd-cat", text_encoder=encoder, tokenizer=tokenizer)
    assert weights.tokens == ("odd-cat",)
    assert_same(ends(weights, start="a Odd-Cat", end=prompts[1]), stock_pictures(pipeline, prompts), plain)


def test_each_vector_of_a_textual_inversion_counts_as_a_token(folders):
    """75 tokens are read. What is cut is quoted as it was written."""
    weights = load(settings(folders["sd"], folders["inversion"]))
    sampler = Sampler(weights, 1)

    def cut(prompt: str) -> list[str]:
        return [one.truncated for one in sampler.encode(recipe_of(weights, start=prompt)).warnings]

    assert cut("a " * 72 + "<cat-toy>") == []
    assert cut("a " * 72 + "<cat-toy> b") == ["b"]
    assert cut("a " * 75 + "<Cat-toy> b <cat-toy>") == ["<cat-toy> b <cat-toy>"]


@pytest.mark.parametrize("kind", ["tiny vae", "kl vae"])
@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_another_vae_renders_what_the_stock_pipeline_renders_with_it(folders, tmp_path, family, kind):
    """The weights of the model's own are not even there."""
    folder = Path(shutil.copytree(folders[family], tmp_path / family))
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    weights = load(settings(folder, model_vae=str(folders[kind])))
    vae = (AutoencoderTiny if kind == "tiny vae" else AutoencoderKL).from_pretrained(folders[kind])
    expected, own = (stock_pictures(stock(folders[family], **more), [START, END]) for more in ({"vae": vae}, {}))
    assert_same(ends(weights), expected, own)


def test_a_model_without_additions_keeps_card_and_revision(folders):
    """Frames of the last release must be found, and replicas of the last release must read the card."""
    weights = load(settings(folders["sd"]))
    assert weights.revision == folder_revision(folders["sd"])
    assert not {"vae", "adapters", "base_revision"} & json.loads(derive_card(weights, SIZES).model_dump_json()).keys()


def test_additions_are_part_of_card_revision_and_fingerprint(folders):
    """Each change of them is another model, whose frames are others."""
    sd, lora, vae = folders["sd"], folders["sd lora"], str(folders["tiny vae"])
    choices = [{}, {"adapters": lora}, {"adapters": f"{lora}:0.5"}, {"adapters": f"{lora},{folders['other lora']}"}]
    choices += [{"adapters": folders["inversion"]}, {"model_vae": vae}, {"model_vae": vae, "adapters": lora}]
    cards = [derive_card(load(settings(sd, **choice)), SIZES) for choice in choices]
    assert len({card.revision for card in cards}) == len(choices)
    assert {card.base_revision for card in cards[1:]} == {cards[0].revision}
    both = json.loads(cards[-1].model_dump_json())
    assert both["adapters"][0]["weight"] == 1
    assert both["adapters"][0]["model"] == "sd-style.safetensors"
    assert both["vae"]["model"] == "tiny"
    assert json.loads(cards[4].model_dump_json())["adapters"][0].keys() == {"model", "revision", "token"}
    fused = load(settings(sd, lora))
    assert made_of(fused, 2)["weights"] == cards[1].revision
    assert "fused_on" not in made_of(fused, 2)
    assert "fused_on" in made_of(replace(fused, device=torch.device("meta")), 2), "a GPU's weights come from its host"


def test_a_revision_with_additions_is_computed_as_documented(folders):
    """Others can compute it from the card."""
    card = derive_card(load(settings(folders["sd"], folders["sd lora"], model_vae=str(folders["tiny vae"]))), SIZES)
    fields = json.loads(card.model_dump_json(include={"base_revision", "vae", "adapters"}))
    assert card.revision == hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def test_the_models_own_revision_is_what_is_pinned(folders):
    """MODEL_REVISION has one meaning, with adapters or without."""
    revision = folder_revision(folders["sd"])
    assert load(settings(folders["sd"], folders["sd lora"], model_revision=revision)).revision != revision
    with pytest.raises(UnsuitableModel, match=revision):
        load(settings(folders["sd"], folders["sd lora"], model_revision="f" * 64))


@pytest.mark.parametrize(
    ("other", "wrong"), [({}, "adapters"), ({"model_vae": "tiny vae"}, "VAE"), ({"adapters": ":0.5"}, "0.5")]
)
def test_a_card_for_other_additions_is_refused(folders, tmp_path, other, wrong):
    """The message names the setting, not only two long numbers."""
    file = tmp_path / "card.json"
    file.write_text(derive_card(load(settings(folders["sd"], folders["sd lora"])), SIZES).model_dump_json())
    adapters = f"{folders['sd lora']}{other['adapters']}" if "adapters" in other else None
    vae = str(folders[other["model_vae"]]) if "model_vae" in other else None
    weights = load(settings(folders["sd"], adapters, model_vae=vae))
    with pytest.raises(UnsuitableModel, match=wrong):
        read_card(weights, settings(folders["sd"], model_card=file))


def test_a_printed_card_loads_in_another_process(folders, tmp_path):
    """The operator prints it once, and all replicas get it."""
    environment = {**os.environ, "MODEL_ID": str(folders["sd"]), "MOMALISA_DEVICE": "cpu", "MOMALISA_THREADS": "1"}
    environment |= {
        "MODEL_VAE": str(folders["tiny vae"]),
        "MODEL_ADAPTERS": f"{folders['sd lora']}:0.8, {folders['inversion']}",
    }
    command = [sys.executable, "-m", "momalisa_model.command", "card"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    (tmp_path / "card.json").write_text(ended.stdout)
    ready = load_model(
        settings(
            folders["sd"],
            environment["MODEL_ADAPTERS"],
            model_vae=environment["MODEL_VAE"],
            model_card=tmp_path / "card.json",
        )
    )
    assert ready.answer.card == ModelCard.model_validate_json(ended.stdout)
    assert [one.token for one in ready.answer.card.adapters] == [None, "<cat-toy>"]


def broken_lora(folders: dict[str, Path], file: Path, damage: str) -> Path:
    """A LoRA for Stable Diffusion with one fault."""
    tensors = load_file(folders["sd lora"])
    layer = next(iter(tensors)).removesuffix("lora_A.weight")
    if damage == "a layer too many":
        tensors |= {f"unet.elsewhere.{half}.weight": torch.zeros(3, 3) for half in ("lora_A", "lora_B")}
    elif damage == "another encoder":
        tensors |= {f"text_encoder_2.{half}.weight": torch.zeros(3, 3) for half in ("lora_A", "lora_B")}
    elif damage == "half a layer":
        del tensors[f"{layer}lora_A.weight"]
    elif damage == "DoRA":
        tensors[f"{layer}dora_scale"] = torch.ones(3)
    elif damage == "not finite":
        tensors[f"{layer}lora_B.weight"] *= torch.inf
    save_file(tensors, file)
    if damage == "cut off":
        file.write_bytes(file.read_bytes()[:-7])
    return file


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("a layer too many", "parts of it belong to another model"),
        ("another encoder", "parts of it belong to another model"),
        ("half a layer", "parts of it belong to another model"),
        ("DoRA", "is a DoRA"),
        ("not finite", "does not fit"),
        ("cut off", "is damaged"),
    ],
)
def test_a_lora_that_does_not_fit_as_a_whole_is_refused(folders, tmp_path, damage, sentence):
    """The libraries would log what they leave out, and fill what is missing with random numbers."""
    with pytest.raises(UnsuitableModel, match=sentence) as raised:
        load(settings(folders["sd"], broken_lora(folders, tmp_path / "odd.safetensors", damage)))
    assert "odd.safetensors in MODEL_ADAPTERS" in str(raised.value)
    assert str(tmp_path) not in str(raised.value)


@pytest.mark.parametrize(
    ("model", "adapter", "sentence"),
    [
        ("sd", "klein lora", "no weights for this model"),
        ("klein", "sd lora", "no weights for this model"),
        ("sd", "sdxl lora", "other names or shapes"),
        ("pixart-sigma", "sd lora", "LoRAs are not supported"),
        ("klein", "inversion", "textual inversions are not supported"),
        ("sdxl", "inversion", "for 1 text encoders, but this model has 2"),
        ("sd", "two inversions", "for 2 text encoders, but this model has 1"),
    ],
)
def test_an_adapter_for_another_family_is_refused(folders, model, adapter, sentence):
    """In a sentence that names the file and the family."""
    with pytest.raises(UnsuitableModel, match=sentence) as raised:
        load(settings(folders[model], folders[adapter]))
    assert f"{folders[adapter].name} in MODEL_ADAPTERS does not fit {model}" in str(raised.value)


def test_vectors_of_another_width_and_known_words_are_refused(folders, tmp_path):
    """A textual inversion for another encoder, and one whose token would replace a word."""
    save_inversion(tmp_path / "wide.safetensors", 1, ["<w>"], width=2 * WIDTH)
    save_inversion(tmp_path / "known.safetensors", 1, ["a"])
    for name, sentence in (
        ("wide", "have 32 numbers, but those of the text encoder have 16"),
        ("known", 'has "a" already'),
    ):
        with pytest.raises(UnsuitableModel, match=sentence):
            load(settings(folders["sd"], tmp_path / f"{name}.safetensors"))


def test_a_vocabulary_that_the_encoder_does_not_know_is_still_refused(folders, tmp_path):
    """Textual inversions make both larger, but not the difference."""
    folder = Path(shutil.copytree(folders["sd"], tmp_path / "sd"))
    config = folder / "text_encoder" / "config.json"
    weights = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(weights)
    (name,) = (name for name in tensors if name.endswith("token_embedding.weight"))
    save_file({**tensors, name: tensors[name][:50].clone()}, weights, metadata={"format": "pt"})
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": 50}))
    with pytest.raises(UnsuitableModel, match="54 tokens, but its text encoder knows 50"):
        load(settings(folder, folders["inversion"]))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["style.bin"], "style.bin in MODEL_ADAPTERS is a pickle, .* safetensors.torch.save_file"),
        (["a.safetensors", "b.safetensors"], r"several files \(a.safetensors, b.safetensors\). Name one"),
        (["README.md"], "loras in MODEL_ADAPTERS has no weights in safetensors"),
    ],
)
def test_a_folder_without_the_one_file_of_an_adapter_is_refused(folders, tmp_path, names, sentence):
    """What to do is in the sentence."""
    (tmp_path / "loras").mkdir()
    for name in names:
        (tmp_path / "loras" / name).touch()
    with pytest.raises(UnsuitableModel, match=sentence):
        load(settings(folders["sd"], tmp_path / "loras"))


def test_a_pickle_and_a_missing_file_are_refused_by_name(folders, tmp_path):
    """Before the model is loaded."""
    (tmp_path / "style.pt").touch()
    for place, sentence in (
        (tmp_path / "style.pt", "style.pt .* pickle"),
        (tmp_path / "no.safetensors", "does not exist"),
    ):
        with pytest.raises(UnsuitableModel, match=sentence) as raised:
            load(settings(tmp_path / "no model", place))
        assert str(tmp_path) not in str(raised.value)


def test_a_weight_for_a_textual_inversion_is_refused(folders):
    """It would have no effect."""
    with pytest.raises(UnsuitableModel, match="has no weight"):
        load(settings(folders["sd"], f"{folders['inversion']}:0.5"))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {"_class_name": "AutoencoderDC"},
            "is a AutoencoderDC. A VAE of sd must be AutoencoderKL or AutoencoderTiny",
        ),
        ({"latent_channels": 16}, "latents with 16 channels, but those of sd have 4"),
        (None, "has no readable config.json"),
    ],
)
def test_a_vae_that_does_not_fit_is_refused_before_weights_are_read(folders, tmp_path, config, sentence):
    """Neither its weights nor those of the model are there."""
    folder, vae = (
        shutil.copytree(folders["sd"], tmp_path / "sd"),
        shutil.copytree(folders["tiny vae"], tmp_path / "vae"),
    )
    for weights in tmp_path.rglob("*.safetensors"):
        weights.write_bytes(b"")
    written = json.loads((vae / "config.json").read_text()) | (config or {})
    (vae / "config.json").write_text(json.dumps(written) if config else "{")
    with pytest.raises(UnsuitableModel, match=sentence):
        load(settings(folder, model_vae=str(vae)))


def test_a_vae_without_weights_in_safetensors_is_refused(folders, tmp_path):
    """By its name, not by that of the model."""
    vae = Path(shutil.copytree(folders["tiny vae"], tmp_path / "tiny"))
    (vae / "diffusion_pytorch_model.safetensors").rename(vae / "diffusion_pytorch_model.bin")
    with pytest.raises(UnsuitableModel, match="vae of tiny has no weights in safetensors"):
        load(settings(folders["sd"], model_vae=str(vae)))


def test_sources_are_read_as_documented():
    """Paths may contain colons, and @ if they begin as paths do."""
    assert parse_sources(" owner/name:0.5 , ./a@b/c.safetensors,") == (
        Source("owner/name", None, 0.5),
        Source("./a@b/c.safetensors"),
    )
    assert parse_source("owner/name/deep/file.safetensors@v1:-1") == Source(
        "owner/name/deep/file.safetensors", "v1", -1
    )
    assert parse_source("/a:b/c") == Source("/a:b/c")
    assert str(parse_source("/a:-0.0")) == "/a:0.0", "it adds nothing, so it is the same model"
    assert parse_source("owner/name/x").on_hub == ("owner/name", "x")
    assert parse_source("owner").on_hub is parse_source("/owner/name").on_hub is None


@pytest.mark.parametrize(
    "value", ["owner/name:much", "owner/name:nan", "owner/name:-inf", "owner/name:1e38", "owner/name@", "@v1", ":0.5"]
)
def test_a_source_that_cannot_be_read_is_no_setting(folders, value):
    """Reported at once, with the variable's name."""
    with pytest.raises(ValidationError, match="model_adapters"):
        settings(folders["sd"], value)
    with pytest.raises(ValidationError, match="model_vae"):
        settings(folders["sd"], model_vae=value)


def test_a_vae_has_no_weight():
    """It replaces the other one wholly."""
    with pytest.raises(ValidationError, match="a VAE has no weight"):
        settings("atelier", model_vae="owner/name:0.5")


def test_a_single_file_takes_adapters_and_another_vae(folders, tmp_path):
    """Neither the file nor its configuration needs a VAE then."""
    pipeline = small_family("sd")
    write_single_file(pipeline, tmp_path / "mine.safetensors", without=("first_stage_model",))
    configuration = Path(shutil.copytree(folders["sd"], tmp_path / "configuration"))
    for file in configuration.rglob("*.safetensors"):
        file.unlink()
    more = {"model_vae": str(folders["kl vae"])}
    single = load(
        settings(tmp_path / "mine.safetensors", folders["sd lora"], model_configuration=str(configuration), **more)
    )
    assert_same(
        ends(single),
        ends(load(settings(folders["sd"], folders["sd lora"], **more))),
        ends(load(settings(folders["sd"]))),
    )


def test_recipes_have_no_additions():
    """They would be ignored."""
    both = Settings(recipes="atelier", model_adapters="someone/style")
    with pytest.raises(UnsuitableModel, match="MODEL_ADAPTERS and MOMALISA_RECIPES are both set"):
        sources_of(both)


def test_additions_are_downloaded_from_the_hub_and_pinned(folders, tmp_path, hub_of):
    """Only the files that are needed, through the cache of models; the card has the commits."""
    style, loras = folders["sd lora"], tmp_path / "loras"
    loras.mkdir()
    for name in ("style [v2].safetensors", "other.safetensors"):
        shutil.copy(style, loras / name)
    shutil.copytree(folders["tiny vae"], tmp_path / "vaes" / "deep" / "vae")
    (tmp_path / "vaes" / "deep" / "vae" / "diffusion_pytorch_model.bin").touch()
    (tmp_path / "inversion").mkdir()
    shutil.copy(folders["inversion"], tmp_path / "inversion")
    more = {"someone/loras": loras, "someone/vaes": tmp_path / "vaes", "someone/cat": tmp_path / "inversion"}
    chosen = settings(
        "someone/small",
        f"someone/loras/style [v2].safetensors@{COMMIT}:0.5, someone/cat@main",
        model_vae="someone/vaes/deep/vae",
    )
    with hub_of(folders["sd"], **more) as hub:
        weights = load(chosen)
        wanted = {"style [v2].safetensors", "deep/vae/config.json", "deep/vae/diffusion_pytorch_model.safetensors"}
        assert wanted <= set(hub.downloaded)
        assert not {"other.safetensors", "vae/diffusion_pytorch_model.safetensors"} & set(hub.downloaded)
        assert not any(name.endswith(".bin") for name in hub.downloaded)
        hub.downloaded.clear()
        assert load(chosen).revision == weights.revision
        assert hub.downloaded == []
    fields = weights.additions.in_card
    assert fields["base_revision"] == fields["vae"]["revision"] == COMMIT
    named = [(one["model"], one["revision"]) for one in fields["adapters"]]
    assert named == [
        ("someone/loras/style [v2].safetensors", COMMIT),
        ("someone/cat/learned_embeds.safetensors", COMMIT),
    ]
    with (
        hub_of(folders["sd"], **more),
        pytest.raises(UnsuitableModel, match=r"someone/loras has no file no\.safetensors"),
    ):
        load(settings("someone/small", "someone/loras/no.safetensors"))


def test_a_vae_that_does_not_fit_is_refused_before_weights_are_downloaded(folders, tmp_path, hub_of):
    """Kilobytes for one sentence."""
    large = save_vae(tmp_path / "large", False)
    config = json.loads((large / "config.json").read_text())
    (large / "config.json").write_text(json.dumps(config | {"block_out_channels": [8, 8, 8]}))
    others = {"someone/vae": save_vae(tmp_path / "vae", True, channels=8), "someone/large": large}
    with hub_of(folders["sd"], **others) as hub:
        with pytest.raises(UnsuitableModel, match="8 channels"):
            load(settings("someone/small", model_vae="someone/vae"))
        with pytest.raises(UnsuitableModel, match="has 4 pixels per latent, but someone/small has 2"):
            load(settings("someone/small", model_vae="someone/large"))
    assert not [name for name in hub.downloaded if name.endswith(".safetensors")]
