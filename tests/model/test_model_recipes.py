"""Model recipes: what they may contain, and what a replica makes of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from momalisa_model.families import is_guided
from momalisa_model.lifecycle import load_model
from momalisa_model.model_card import read_card
from momalisa_model.model_recipe import only_source, read_recipe, sources_of
from momalisa_model.problems import UnsuitableModel
from momalisa_model.settings import Settings, embedded_model
from tests.support.processes import WEIGHTS
from tests.support.recipes import RECIPES, recipe_fields, write_recipe
from tests.support.small_adapters import save_lora
from tests.support.small_families import small_family

FAMILIES_OF_RECIPES = {
    "sd15": "sd",
    "sdxl": "sdxl",
    "sdxl-lightning": "sdxl",
    "flux2-klein-4b": "klein",
    "z-image-turbo": "z-image",
    "qwen-image": "qwen-image",
    "sd35-medium": "sd3",
}
# Of other engines, which have tests of their own.
OTHER_ENGINES = {
    "depth-anything-v2-small": "parallax",
    "atelier-depth": "parallax",
    "rf-detr-seg-small": "instances",
    "atelier-instances": "instances",
    "styles": "style",
}
# Their cards are beside their weights.
EMBEDDED = ("atelier", "atelier-depth", "atelier-instances", "styles", "atelier-128")
DISTILLED = ("flux2-klein-4b",)
WITHOUT_GUIDANCE = ("flux2-klein-4b", "sdxl-lightning", "z-image-turbo")
UNETS = ("sd", "sdxl")
STATED = ("num_inference_steps", "guidance_scale", "scheduler", "offload", "vae_slicing")
# Sizes of the small models, for UNets and for others.
SMALL = {True: {"width": 32, "height": 32}, False: {"width": 64, "height": 64, "min_size": 32, "max_size": 128}}


def settings_with(*recipes: object, **more: object) -> Settings:
    return Settings(recipes=" ".join(map(str, recipes)), device="cpu", threads=1, **more)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"licence": "MIT"}, "licence is not a known field; known are name, model_id"),
        ({"resources": {"gpu": "l4", "memory_gib": 1, "cpus": 1, "disk": 2}}, "known are gpu, gpu_memory_gb"),
        ({"card": {"steps": 4}}, "card: steps is not a known field; known are styles, micro_batch, width"),
        ({"card": {"revision": "f" * 40}}, "card: revision is not a known field"),
        ({"name": "Plain"}, "name: String should match"),
        ({"name": "other"}, "names itself other. Name the file other.yml"),
        ({"engine": "painter"}, "engine: Input should be 'diffusion'"),
        ({"commercial": "yes"}, "commercial: Input should be a valid boolean"),
        ({"adapters": "someone/loras"}, "name the file too, as in someone/loras/FILE.safetensors"),
        ({"adapters": "a/b/x.safetensors@1,a/b/y.safetensors@2"}, "adapters: use one revision of a/b"),
        ({"license": None}, "license: Input should be a valid string"),
        ({"license": "MIT\nmodel_id: x"}, "license: must be one line"),
        ({"resources": {"gpu": "b200", "memory_gib": 1, "cpus": 1}}, "resources.gpu: Input should be 't4', 'l4'"),
    ],
)
def test_an_invalid_recipe_is_refused_with_what_is_allowed(tmp_path, changes, expected):
    """Recipes are written by hand. A field with a wrong name would count for nothing."""
    file = write_recipe(tmp_path, "plain", "someone/small")
    fields = recipe_fields("plain", "someone/small") | changes
    file.write_text(json.dumps(fields))  # JSON is YAML
    with pytest.raises(UnsuitableModel) as refused:
        read_recipe(str(file))
    assert expected in str(refused.value)


@pytest.mark.parametrize("text", ["", "- a list", "name: [", "\x00", "!!python/object/apply:os.getcwd []"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text):
    """Tags of Python would run code."""
    file = tmp_path / "plain.yml"
    file.write_text(text)
    with pytest.raises(UnsuitableModel, match=r"The model recipe .*plain\.yml"):
        read_recipe(str(file))


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    """Most likely a typo."""
    with pytest.raises(UnsuitableModel, match=r"no model recipe ateliar. Known are .*atelier"):
        sources_of(settings_with("ateliar"))


def test_a_recipe_and_a_model_id_exclude_each_other(tmp_path):
    """Nobody could tell which of the two a replica has."""
    with pytest.raises(UnsuitableModel, match="Leave one of them out"):
        sources_of(settings_with("atelier", model_id="someone/small"))
    file = write_recipe(tmp_path, "atelier", "someone/small")
    with pytest.raises(UnsuitableModel, match="Two model recipes are named atelier"):
        sources_of(settings_with("atelier", file))


def test_the_ateliers_recipe_is_the_default_model(loaded_model):
    """Its stored frames keep their keys, and its card is the file beside its weights. The licence is the recipe's."""
    [source] = sources_of(settings_with("atelier"))
    answer, expected = load_model(source).answer, loaded_model(str(WEIGHTS)).answer
    about = expected.card.about.model_copy(update={"commercial": True})
    assert answer == expected.model_copy(update={"card": expected.card.model_copy(update={"about": about})})
    assert read_recipe("atelier").license == json.loads((WEIGHTS / "card.json").read_text())["about"]["license"]


def test_a_recipe_names_its_model_and_replaces_fields_of_the_derived_card(models, tmp_path, loaded_model):
    """The recipe is all that an operator writes."""
    card = {"num_inference_steps": 4, "about": {"title": "Small"}}
    file = write_recipe(tmp_path, "small-one", models["plain"], card=card)
    [source] = sources_of(settings_with(file))
    weights = loaded_model("plain").engine.sampler.weights
    read = read_card(weights, source)
    derived = loaded_model("plain").answer.card
    assert read == derived.model_copy(
        update={
            "model": "small-one",
            "num_inference_steps": 4,
            "about": derived.about.model_copy(update={"title": "Small", "license": "CC0-1.0", "commercial": True}),
        }
    )


def test_a_card_file_counts_for_the_recipe_that_it_names(models, tmp_path, loaded_model):
    """One file for all replicas: those of other models must not take its fields."""
    weights = loaded_model("plain").engine.sampler.weights
    file = write_recipe(tmp_path, "one", models["plain"], card={"num_inference_steps": 4})
    given = tmp_path / "card.json"
    steps = []
    for name in ("one", "other"):
        given.write_text(json.dumps({"model": name, "num_inference_steps": 9}))
        [source] = sources_of(settings_with(file, model_card=given))
        steps.append(read_card(weights, source).num_inference_steps)
    assert steps == [9, 4]
    given.write_text(json.dumps({"model": "one", "revision": "f" * 64}))
    with pytest.raises(UnsuitableModel, match=f"is for one at {'f' * 64}"):
        read_card(weights, sources_of(settings_with(file, model_card=given))[0])


def test_the_precision_of_a_recipe_gives_way_to_a_setting(models, tmp_path):
    """An operator knows the device."""
    file = write_recipe(tmp_path, "one", models["plain"], dtype="bfloat16")
    dtypes = [sources_of(settings_with(file, **more))[0].dtype for more in ({}, {"dtype": "float32"})]
    assert dtypes == ["bfloat16", "float32"]


@pytest.mark.parametrize("name", sorted(FAMILIES_OF_RECIPES))
def test_a_recipe_of_the_project_fits_a_small_model_of_its_family(name, tmp_path):
    """Its steps, guidance, schedulers and options of the device: nobody downloads gigabytes to find a wrong one."""
    recipe = read_recipe(name)
    pipeline = small_family(FAMILIES_OF_RECIPES[name])
    if name in DISTILLED:
        pipeline.register_to_config(is_distilled=True)
    pipeline.save_pretrained(tmp_path / name, safe_serialization=True)
    card = recipe.card | SMALL[FAMILIES_OF_RECIPES[name] in UNETS] | {"micro_batch": 2}
    more = {}
    if recipe.adapters:
        more["adapters"] = str(tmp_path / "lora.safetensors")
        save_lora(tmp_path / "lora.safetensors", FAMILIES_OF_RECIPES[name], ["unet"])
    file = write_recipe(tmp_path, name, tmp_path / name, card=card, **more)
    ready = load_model(sources_of(settings_with(file))[0])
    assert (ready.card.model, len(ready.card.adapters)) == (name, len(more))
    stated, used = ({**card, **card.get("device", {})} for card in (recipe.card, ready.card.model_dump()))
    assert [field for field in STATED if field in stated and used[field] != stated[field]] == []
    guided = is_guided(ready.engine.sampler.weights.pipeline, ready.card.guidance_scale)
    assert guided == (name not in WITHOUT_GUIDANCE), "distilled models are slower and worse with guidance"
    multiple = 64 if FAMILIES_OF_RECIPES[name] in UNETS else 16
    assert recipe.card["width"] % multiple == recipe.card["height"] % multiple == 0


def test_the_recipes_of_the_project_are_complete():
    """Each has a title and a licence for the gallery, and a small model above."""
    recipes = {file.stem: read_recipe(file.stem) for file in RECIPES.glob("*.yml")}
    assert set(recipes) == {"atelier", "atelier-128", *FAMILIES_OF_RECIPES, *OTHER_ENGINES}
    assert all(recipe.card["about"]["title"] for name, recipe in recipes.items() if name not in EMBEDDED)
    assert {name: recipe.engine for name, recipe in recipes.items() if recipe.engine != "diffusion"} == OTHER_ENGINES
    assert [name for name, recipe in recipes.items() if not recipe.on_hub] == [
        name for name in recipes if name in EMBEDDED
    ]
    assert all((recipe.download_gb > 0) == recipe.on_hub for recipe in recipes.values()), "deployments fetch by this"


def test_without_settings_a_replica_has_the_embedded_models_whose_weights_are_there():
    """All kinds of walks work on a fresh machine. The atelier is first, and its card is the file beside its weights."""
    settings = Settings(device="cpu")
    first, *others = sources_of(settings)
    assert first is settings
    trained = [name for name in EMBEDDED[1:3] if (Path(embedded_model(name)) / "model.safetensors").is_file()]
    assert [source.name for source in others] == [*trained, "styles"]
    assert sources_of(Settings(model_id=str(WEIGHTS))) == [Settings(model_id=str(WEIGHTS))]
    assert only_source(settings) is settings, "the card that is printed is the atelier's"
