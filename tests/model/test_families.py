"""Every family of models, with random weights, against its own stock pipeline; and a frame's bits in every place."""

from __future__ import annotations

import copy
import hashlib
import inspect
import itertools
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForImage2Image, DiffusionPipeline

from momalisa_model.cancellation import Cancelled
from momalisa_model.engines.latents import encode_picture
from momalisa_model.engines.sampler import Sampler
from momalisa_model.families import FAMILIES, class_of_family, denoiser_of
from momalisa_model.model_card import derive_card
from momalisa_model.problems import UnsuitableModel
from momalisa_model.prompts import Leg, filled
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.settings import Settings
from momalisa_model.spread import blocks_of, size_of, spread
from momalisa_model.weights import load
from tests.support.second_device import CPU, OnSecond, second_device
from tests.support.small_families import SMALL_FAMILIES, small_family
from tests.support.stock_pipeline import slerp

# Steps, guidance, size multiple, and tokens of a prompt where each letter is a token.
CARDS = {
    "sd": (25, 7.5, 8, 77),
    "lcm": (4, 8.5, 8, 77),
    "sdxl": (25, 5.0, 8, 77),
    "sd3": (28, 4.5, 16, 256),
    "flux": (28, 3.5, 16, 512),
    "chroma": (35, 5.0, 16, 512),
    "klein": (50, 4.0, 16, 506),
    "z-image": (50, 4.0, 16, 506),
    "qwen-image": (50, 4.0, 16, 512),
    "krea-2": (28, 4.5, 16, 507),
    "sana": (20, 4.5, 32, 299),
    "sana-sprint": (2, 4.5, 32, 299),
    "pixart-sigma": (20, 4.5, 16, 300),
    "lumina-2": (30, 4.0, 16, 92),
}
MICRO_BATCH = 3
SIZES = {"width": 64, "height": 32, "min_size": 32, "max_size": 64}
START, END = "a red sunburst on yellow", "blue waves"
GUIDANCE = {"z-image": 3.0, "krea-2": 3.0}
# Pictures as stops, by what stands for their SHA-256 here.
STOPS = {key: np.random.default_rng(number).integers(0, 256, (32, 64, 3), np.uint8) for number, key in enumerate("ab")}
BETWEEN_PICTURES: dict[str, Any] = {"start_picture": "a", "end_picture": "b", "strength": 0.6, "num_inference_steps": 3}


@dataclass
class Loaded:
    """A family's small model as the service loads it, and as diffusers does."""

    name: str
    folder: Path
    sampler: Sampler
    recipe: BetweenRecipe
    stock: Any

    def leg(self, **changes: Any) -> Leg:
        return self.sampler.encode(self.recipe.model_copy(update=changes))

    def pictures(self, fractions: list[float], leg: Leg | None = None, **changes: Any) -> torch.Tensor:
        recipe = self.recipe.model_copy(update=changes)
        return self.sampler.pictures(recipe, leg or self.sampler.encode(recipe), fractions, lambda: False, STOPS)

    def reconstructed(self, picture: np.ndarray) -> np.ndarray:
        """What the stock autoencoder makes of a picture: (height, width, 3) in [0, 1]."""
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1
        vae = self.stock.vae
        with torch.no_grad():
            encoded = vae.encode(pixels[:, :, None] if "z_dim" in vae.config else pixels)
            latents = encoded.latent_dist.mode() if "latent_dist" in encoded else encoded.latent
            decoded = vae.decode(latents, return_dict=False)[0]
        return (decoded.reshape(pixels.shape)[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy()

    def stock_picture(self, **given: Any) -> np.ndarray:
        """What `__call__` of the stock pipeline renders: (height, width, 3) in [0, 1]."""
        takes = inspect.signature(self.stock.__call__).parameters
        recipe, guidance = self.recipe, self.recipe.guidance_scale
        settings = {"width": recipe.width, "height": recipe.height, "use_resolution_binning": False}
        settings |= {"num_inference_steps": recipe.num_inference_steps, "output_type": "np"}
        settings |= {"true_cfg_scale" if self.name == "qwen-image" else "guidance_scale": guidance}
        settings |= {"generator": torch.Generator().manual_seed(recipe.seed)}
        # The others use their default for an empty negative prompt.
        settings |= {"negative_prompt": ""} if self.name == "qwen-image" else {}
        settings |= given
        return self.stock(**{name: value for name, value in settings.items() if name in takes}).images[0]


def load_family(name: str, folder: Path) -> Loaded:
    weights = load(Settings(model_id=str(folder), device="cpu", threads=1))
    card = derive_card(weights, SIZES | {"micro_batch": MICRO_BATCH})
    defaults = {field: getattr(card, field) for field in ("width", "height", "scheduler", "model", "revision")}
    recipe = BetweenRecipe(
        start=START,
        end=END,
        negative_prompt="",
        seed=7,
        num_inference_steps=2,
        guidance_scale=GUIDANCE.get(name, 4.0),
        **defaults,
    )
    stock = DiffusionPipeline.from_pretrained(folder)
    stock.set_progress_bar_config(disable=True)
    return Loaded(name, folder, Sampler(weights, card.micro_batch), recipe, stock)


@pytest.fixture(scope="module")
def family_named(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Loaded]:
    """Each family is saved and loaded once."""
    base, loaded = tmp_path_factory.mktemp("families"), {}

    def named(name: str) -> Loaded:
        if name not in loaded:
            small_family(name).save_pretrained(base / name, safe_serialization=True)
            loaded[name] = load_family(name, base / name)
        return loaded[name]

    return named


@pytest.fixture(params=SMALL_FAMILIES)
def family(request: pytest.FixtureRequest, family_named: Callable[[str], Loaded]) -> Loaded:
    return family_named(request.param)


def test_every_family_in_the_table_is_tested():
    """A new line needs a small model."""
    assert {type(small_family(name)).__name__ for name in SMALL_FAMILIES} == set(FAMILIES)


def test_a_class_with_a_former_name_is_known():
    """Lumina 2's own model_index.json has one."""
    assert class_of_family("Lumina2Text2ImgPipeline", "lumina") == "Lumina2Pipeline"


def test_both_ends_equal_the_stock_pipeline(family):
    """A stop is the picture that anybody else gets for its prompt."""
    rendered = family.pictures([0.0, 1.0]).numpy()
    for picture, prompt in zip(rendered, filled(family.sampler.weights, START, END), strict=True):
        assert np.abs(picture - family.stock_picture(prompt=prompt)).max() <= 1e-5
    assert np.abs(rendered[0] - rendered[1]).max() > 1e-4, "both ends look the same, so the test shows nothing"


def test_the_middle_equals_the_stock_pipeline_with_interpolated_embeddings(family):
    """Token by token and for the pooled embedding, interpolated independently of the code under test."""
    leg = family.leg()
    given: dict[str, Any] = {name: value[None] for name, value in leg.negative.items()}
    for name, start in leg.start.items():
        end, floating = leg.end[name], start.is_floating_point() and "mask" not in name
        mixed = slerp(start.double().numpy(), end.double().numpy(), 0.5) if floating else np.maximum(start, end)
        given[name] = torch.as_tensor(mixed).to(start.dtype)[None]
    if family.name == "z-image":
        given = {name: list(value) for name, value in given.items()}
    (rendered,) = family.pictures([0.5], leg).numpy()
    assert np.abs(rendered - family.stock_picture(**given, negative_prompt=None)).max() <= 1e-5


def test_the_derived_card_has_the_limits_of_the_family(family):
    """MODEL_ID alone is enough for a model of every family."""
    card = derive_card(family.sampler.weights, SIZES)
    assert (card.num_inference_steps, card.guidance_scale, card.size_multiple, card.token_limit) == CARDS[family.name]
    assert card.scheduler == card.schedulers[0]


def test_what_is_told_to_be_cut_is_exactly_what_has_no_effect(family):
    """Not one token more or less, whatever the stock pipeline puts before and after a prompt."""
    weights = family.sampler.weights
    room = weights.token_limit - len(weights.tokenizer("").input_ids)
    separate = "CLIP" in type(weights.tokenizer).__name__
    letters = (letter + " " * separate for letter in itertools.cycle("abcdefgh"))
    whole = "".join(itertools.islice(letters, room + 5)).strip()
    read = whole[: 2 * room - 1] if separate else whole[:room]
    leg, same = family.leg(start=whole), family.leg(start=read)
    (warning,) = leg.warnings
    assert warning.prompt == "start"
    assert warning.truncated.replace(" ", "") == whole.replace(" ", "")[room:]
    assert same.warnings == ()
    assert all(torch.equal(value, same.start[name]) for name, value in leg.start.items())
    shorter = family.leg(start=read[:-1] + "z")
    assert any(not torch.equal(value, shorter.start[name]) for name, value in leg.start.items())


def test_distilled_models_get_few_steps(family_named):
    """Their index says so, or their name."""
    klein = family_named("klein").sampler.weights
    distilled = copy.copy(klein.pipeline)
    distilled.register_to_config(is_distilled=True)
    card = derive_card(replace(klein, pipeline=distilled), SIZES)
    assert (card.num_inference_steps, card.guidance_scale) == (4, 0.0)
    lightning = derive_card(replace(family_named("sdxl").sampler.weights, model="someone/SDXL-Lightning"), SIZES)
    assert (lightning.num_inference_steps, lightning.guidance_scale) == (4, 0.0)


def test_a_card_with_a_guidance_interval_needs_a_family_that_has_it(family_named, tmp_path):
    """The other families would ignore it."""
    flux, sdxl = (family_named(name).sampler.weights for name in ("flux", "sdxl"))
    assert derive_card(sdxl, SIZES | {"guidance_interval": [0.2, 0.8]}).guidance_interval == (0.2, 0.8)
    with pytest.raises(UnsuitableModel, match=r"guidance_interval, which models of the family FLUX\.1"):
        derive_card(flux, SIZES | {"guidance_interval": [0.2, 0.8]})


def test_sdxl_blends_both_embeddings_and_keeps_both_stops(family_named):
    """The early blend mixes two predictions, each with its own pooled embedding."""
    sdxl = family_named("sdxl")
    more = {"num_inference_steps": 4, "guidance_interval": (0.0, 0.5)}
    plain = sdxl.pictures([0.0, 0.4, 1.0], **more)
    early = sdxl.pictures([0.0, 0.4, 1.0], **more, blend="early")
    assert torch.equal(plain[[0, 2]], early[[0, 2]])
    assert not torch.equal(plain[1], early[1])


def test_a_frames_bits_do_not_depend_on_its_neighbours_or_its_place(family):
    """Frames are stored by recipe and fraction for ever, so they must be the same in every shard."""
    leg = family.leg()
    alone = family.pictures([0.3], leg)[0]
    for place in range(MICRO_BATCH):
        fractions = [0.05, 0.5, 0.9]
        fractions[place] = 0.3
        assert torch.equal(alone, family.pictures(fractions, leg)[place]), place


def test_a_walk_between_pictures_begins_and_ends_with_them(family):
    """As exactly as the autoencoder can: nothing of the noise or the prompts is left."""
    first, middle, last = family.pictures([0.0, 0.5, 1.0], **BETWEEN_PICTURES, start="", end="").numpy()
    for picture, key in ((first, "a"), (last, "b")):
        assert np.abs(picture - family.reconstructed(STOPS[key])).max() <= 1e-5
    assert np.abs(middle - first).max() > 1e-3


def test_a_prompt_beside_a_picture_has_the_bits_of_its_own_frame(family):
    """A leg with a picture joins a leg of prompts."""
    steps = {"num_inference_steps": 2}
    plain = family.pictures([0.0, 1.0], **steps)
    to_picture = family.pictures([0.0], **BETWEEN_PICTURES | steps | {"start_picture": None})
    from_picture = family.pictures([0.3, 1.0], **BETWEEN_PICTURES | steps | {"end_picture": None})
    assert torch.equal(plain, torch.cat([to_picture, from_picture[1:]]))


def test_the_bits_of_a_frame_between_pictures_do_not_depend_on_its_neighbours(family):
    """Their levels of noise are others, but all frames run through the same steps."""
    leg = family.leg()
    alone = family.pictures([0.02], leg, **BETWEEN_PICTURES)[0]
    for place in range(MICRO_BATCH):
        fractions = [0.0, 0.5, 0.99]
        fractions[place] = 0.02
        assert torch.equal(alone, family.pictures(fractions, leg, **BETWEEN_PICTURES)[place]), place


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux", "z-image"])
def test_a_frame_between_pictures_equals_the_stock_pipeline_for_pictures(family_named, name):
    """Where its level is one of the schedule's: then the dip is img2img of the mixture of both latents."""
    family = family_named(name)
    stock = AutoPipelineForImage2Image.from_pipe(family.stock)
    stock.set_progress_bar_config(disable=True)
    changes = BETWEEN_PICTURES | {"strength": 1.0, "num_inference_steps": 4, "start": START, "end": START}
    fraction = math.asin(0.75**2) / math.pi
    latents = [encode_picture(family.sampler.weights, STOPS[key]) for key in "ab"]
    mixed = torch.lerp(*latents, fraction)[None]
    if name == "flux":
        mixed = stock._unpack_latents(mixed, 32, 64, stock.vae_scale_factor)
    (prompt, _) = filled(family.sampler.weights, START, START)
    given = {"prompt": prompt, "image": mixed, "strength": 0.75, "num_inference_steps": 4, "output_type": "np"}
    given |= {"guidance_scale": family.recipe.guidance_scale, "width": 64, "height": 32}
    given |= {"generator": torch.Generator().manual_seed(family.recipe.seed)}
    takes = inspect.signature(stock.__call__).parameters
    expected = stock(**{argument: value for argument, value in given.items() if argument in takes}).images[0]
    assert np.abs(family.pictures([fraction], **changes)[0].numpy() - expected).max() <= 1e-4


def test_there_is_no_step_before_an_end(family):
    """The prompts have different lengths: attention to further tokens must not begin all at once."""
    almost_start, start, end = family.pictures([1e-6, 0.0, 1.0])
    almost_end = family.pictures([1 - 1e-6])[0]
    assert (almost_start - start).abs().max() <= 1e-5
    assert (almost_end - end).abs().max() <= 1e-5


def test_rendering_stops_between_two_passes_and_the_next_request_is_rendered(family):
    """A disconnected caller must not use the device, and must leave nothing behind."""
    leg, answers, passes = family.leg(), iter([False, True]), []
    before = family.pictures([0.3], leg)
    hook = denoiser_of(family.sampler.weights.pipeline).register_forward_hook(lambda *_: passes.append(1))
    with pytest.raises(Cancelled):
        family.sampler.pictures(family.recipe, leg, [0.3], lambda: next(answers))
    hook.remove()
    assert len(passes) == 1
    assert torch.equal(before, family.pictures([0.3], leg))


def test_high_pictures_are_rendered_too(family):
    """The other tests render wide ones."""
    assert family.pictures([0.5], width=32, height=64).shape == (1, 64, 32, 3)


def test_every_family_can_be_spread_over_two_devices(family):
    """Blocks and text encoders are elsewhere, and everything comes back to where it is needed."""
    weights = family.sampler.weights
    pipeline = copy.copy(weights.pipeline)
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    networks = {name: copy.deepcopy(part) for name, part in parts.items()}
    for name, network in networks.items():
        setattr(pipeline, name, network)
    encoders = {name for name in networks if name.startswith("text_encoder")}
    movable = [*blocks_of(denoiser_of(pipeline)), *(networks[name] for name in encoders)]
    fixed = sum(map(size_of, networks.values())) - sum(map(size_of, movable))
    with second_device() as second:
        spread(pipeline, networks, {CPU: fixed, second: 2**40})
        elsewhere = {name for name in networks if any(isinstance(one, OnSecond) for one in networks[name].parameters())}
        sampler = Sampler(replace(weights, pipeline=pipeline), MICRO_BATCH)
        pictures = sampler.pictures(family.recipe, sampler.encode(family.recipe), [0.0, 0.3], lambda: False)
        from_picture = family.recipe.model_copy(update=BETWEEN_PICTURES | {"end_picture": None})
        between = sampler.pictures(from_picture, sampler.encode(from_picture), [0.3], lambda: False, STOPS)
    assert elsewhere == {weights.family.denoiser, *encoders}
    torch.testing.assert_close(pictures, family.pictures([0.0, 0.3]), atol=1e-6, rtol=0)
    expected = family.pictures([0.3], **BETWEEN_PICTURES | {"end_picture": None})
    torch.testing.assert_close(between, expected, atol=1e-5, rtol=0)


def test_another_process_renders_the_same_bits(family_named):
    """Two replicas with equal fingerprints are interchangeable. One process for all families."""
    script = "import sys; from tests.model.test_families import print_digests; print_digests(sys.argv[1:])"
    folders = [str(family_named(name).folder) for name in SMALL_FAMILIES]
    ended = subprocess.run([sys.executable, "-c", script, *folders], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert re.findall("digest (.*)", ended.stdout) == [digest(family_named(name)) for name in SMALL_FAMILIES]


def print_digests(folders: list[str]) -> None:
    """In the other process: a digest of each family's frames."""
    for folder in folders:
        print("digest", digest(load_family(Path(folder).name, Path(folder))))


def digest(family: Loaded) -> str:
    pictures = torch.cat([family.pictures([0.3, 0.7]), family.pictures([0.3], **BETWEEN_PICTURES)])
    return hashlib.sha256(pictures.numpy().tobytes()).hexdigest()
