"""The sampler against the stock pipeline; and a frame's bytes depend only on its recipe and fraction."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from momalisa_model.cancellation import Cancelled
from momalisa_model.engines.sampler import FROM_PICTURES, Sampler
from momalisa_model.families import NOISE
from momalisa_model.lifecycle import LoadedModel, load_model
from momalisa_model.problems import NotANumber, UnsuitableModel
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.schedulers import SCHEDULERS, name_of
from momalisa_model.settings import embedded_model
from momalisa_model.weights import load
from tests.support.model_server import recipe_for

ATELIER = Path(embedded_model())
# The atelier is never skipped: it is part of the repository, and the model that most people see.
MODELS = ["plain", "wide", "distilled", pytest.param(str(ATELIER), id="atelier")]
FRACTIONS = [0.0, 0.3, 1.0]


def reference_slerp(start: np.ndarray, end: np.ndarray, fraction: float) -> np.ndarray:
    """Token by token in float64, written independently of the code under test."""
    walked = np.empty_like(start)
    for token, (a, b) in enumerate(zip(start.astype(np.float64), end.astype(np.float64), strict=True)):
        cosine = float(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1))
        if abs(cosine) > 0.9995:
            walked[token] = a + fraction * (b - a)
        else:
            angle = np.arccos(cosine)
            walked[token] = (np.sin((1 - fraction) * angle) * a + np.sin(fraction * angle) * b) / np.sin(angle)
    return walked


class StockSampler:
    """Renders a recipe with StableDiffusionPipeline.__call__."""

    def __init__(self, ready: LoadedModel, recipe: BetweenRecipe) -> None:
        weights = ready.engine.sampler.weights
        self.pipeline = StableDiffusionPipeline.from_pretrained(weights.folder, dtype=torch.float32)
        self.pipeline.set_progress_bar_config(disable=True)
        if recipe.scheduler != name_of(weights.pipeline.scheduler):
            config = {**self.pipeline.scheduler.config, "clip_sample": False}
            self.pipeline.scheduler = SCHEDULERS[recipe.scheduler].from_config(config)
        self.recipe = recipe

    def embeds(self, prompt: str) -> np.ndarray:
        return self.pipeline.encode_prompt(prompt, "cpu", 1, False)[0][0].detach().numpy()

    def render(self, fractions: list[float]) -> np.ndarray:
        """Pictures (frames, height, width, 3) in [0, 1]."""
        recipe, frames = self.recipe, len(fractions)
        start, end = self.embeds(recipe.start), self.embeds(recipe.end)
        walked = np.stack([reference_slerp(start, end, fraction) for fraction in fractions])
        negative = np.stack([self.embeds(recipe.negative_prompt)] * frames)
        factor, channels = self.pipeline.vae_scale_factor, self.pipeline.unet.config.in_channels
        shape = (1, channels, recipe.height // factor, recipe.width // factor)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(recipe.seed))
        return self.pipeline(
            prompt_embeds=torch.from_numpy(walked),
            negative_prompt_embeds=torch.from_numpy(negative),
            latents=noise.repeat(frames, 1, 1, 1),
            num_inference_steps=recipe.num_inference_steps,
            guidance_scale=recipe.guidance_scale,
            width=recipe.width,
            height=recipe.height,
            output_type="np",
        ).images

    def render_early(self, fraction: float) -> np.ndarray:
        """The picture (height, width, 3) in [0, 1] at a fraction with the early blend: its formula, written plainly."""
        pipeline, scale = self.pipeline, self.recipe.guidance_scale
        start, end, negative = (
            torch.from_numpy(self.embeds(prompt))[None]
            for prompt in (self.recipe.start, self.recipe.end, self.recipe.negative_prompt)
        )
        walked = torch.from_numpy(reference_slerp(start[0].numpy(), end[0].numpy(), fraction))[None]
        pipeline.scheduler.set_timesteps(self.recipe.num_inference_steps)
        factor, height, width = pipeline.vae_scale_factor, self.recipe.height, self.recipe.width
        shape = (1, pipeline.unet.config.in_channels, height // factor, width // factor)
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(self.recipe.seed))

        @torch.no_grad()
        def guided(prompt: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            without, with_prompt = (pipeline.unet(latents, t, embeds).sample for embeds in (negative, prompt))
            return without + scale * (with_prompt - without)

        for step, t in enumerate(pipeline.scheduler.timesteps):
            if step < len(pipeline.scheduler.timesteps) / 3:
                noise = (1 - fraction) * guided(start, t) + fraction * guided(end, t)
            else:
                noise = guided(walked, t)
            latents = pipeline.scheduler.step(noise, t, latents).prev_sample
        with torch.no_grad():
            image = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
        return (image * 0.5 + 0.5).clamp(0, 1)[0].permute(1, 2, 0).numpy()


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


def recipe_of(ready: LoadedModel, **changes: object) -> BetweenRecipe:
    return BetweenRecipe(**recipe_for(ready, **changes))


@contextmanager
def torch_with(threads: int) -> Iterator[None]:
    """Samplers that are created in this block use this number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("guidance_scale", [0.0, 4.0])
@pytest.mark.parametrize("model", MODELS)
def test_a_batch_equals_that_of_the_stock_pipeline(loaded_model, model, guidance_scale):
    """The denoising loop is Stable Diffusion, with and without guidance, for models of all these shapes."""
    ready = loaded_model(model)
    # The atelier's default steps; for models that render noise, few are enough.
    steps = 12 if model == str(ATELIER) else 3
    recipe = recipe_of(ready, guidance_scale=guidance_scale, negative_prompt="grey", num_inference_steps=steps)
    rendered = ready.engine.sampler.pictures(recipe, ready.engine.sampler.encode(recipe), FRACTIONS, lambda: False)
    expected = StockSampler(ready, recipe).render(FRACTIONS)
    assert np.abs(rendered.numpy() - expected).max() <= 1e-5
    assert np.abs(expected[0] - expected[2]).max() > 1e-3, "both ends look the same, so the test shows nothing"


@pytest.mark.parametrize("model", MODELS)
def test_a_frame_equals_that_of_the_stock_pipeline_alone(loaded_model, model):
    """Batching may change a value by at most one level of 255."""
    ready = loaded_model(model)
    recipe = recipe_of(ready)
    stock = StockSampler(ready, recipe)
    for frame in ready.engine.sampler.frames(recipe, ready.engine.sampler.encode(recipe), FRACTIONS):
        alone = (stock.render([frame.fraction])[0] * 255).round().astype(int)
        assert np.abs(pixels(frame.png) - alone).max() <= 1


@pytest.mark.parametrize("scheduler", NOISE)
def test_every_scheduler_equals_the_stock_one(loaded_model, scheduler):
    """Schedulers keep state between steps; a copy with another configuration would render another picture."""
    ready = loaded_model("wide")
    recipe = recipe_of(ready, scheduler=scheduler, num_inference_steps=5)
    rendered = ready.engine.sampler.pictures(recipe, ready.engine.sampler.encode(recipe), FRACTIONS, lambda: False)
    assert np.abs(rendered.numpy() - StockSampler(ready, recipe).render(FRACTIONS)).max() <= 1e-5


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("scheduler", ["PNDM", *NOISE])
def test_few_steps_are_enough_for_every_scheduler(loaded_model, scheduler, steps):
    """The contract allows one step; multistep solvers must support it."""
    ready = loaded_model("plain")
    recipe = recipe_of(ready, scheduler=scheduler, num_inference_steps=steps)
    assert len(list(ready.engine.sampler.frames(recipe, ready.engine.sampler.encode(recipe), [0.5]))) == 1


@pytest.mark.parametrize(("threads", "micro_batch"), [(1, 5), (2, 5), (2, 3), (2, 4)])
@pytest.mark.parametrize("model", MODELS)
def test_a_frames_bits_do_not_depend_on_its_neighbours_or_its_place(loaded_model, model, threads, micro_batch):
    """Frames are stored by recipe and fraction for ever, so they must be the same in every shard.

    Compared before rounding, which would hide small differences in most pictures but not in all.
    """
    ready = loaded_model(model)
    recipe = recipe_of(ready, num_inference_steps=1)
    with torch_with(threads):
        sampler = Sampler(ready.engine.sampler.weights, micro_batch)
        leg = sampler.encode(recipe)

        def rendered(fractions: list[float], place: int) -> torch.Tensor:
            return sampler.pictures(recipe, leg, fractions, lambda: False)[place]

        alone = rendered([0.3], 0)
        for place in range(micro_batch):
            fractions = [0.05 + i / 10 for i in range(micro_batch)]
            assert torch.equal(alone, rendered([*fractions[:place], 0.3, *fractions[place + 1 :]], place))
        assert not torch.equal(alone, rendered([0.9], 0))


@pytest.mark.parametrize("model", MODELS)
def test_the_early_blend_keeps_both_stops_bit_for_bit_and_changes_what_is_between(loaded_model, model):
    """A leg that is rendered with the early blend joins its neighbours, which are not."""
    ready = loaded_model(model)
    leg = ready.engine.sampler.encode(recipe_of(ready))
    plain, early = (
        ready.engine.sampler.pictures(recipe_of(ready, blend=blend), leg, FRACTIONS, lambda: False)
        for blend in ("embeddings", "early")
    )
    assert torch.equal(plain[[0, 2]], early[[0, 2]])
    assert not torch.equal(plain[1], early[1])


def test_the_early_blend_mixes_the_noise_predictions_of_the_first_third(loaded_model):
    """Compared with the formula, step by step with the stock networks, on both sides of the middle."""
    ready = loaded_model("plain")
    recipe = recipe_of(ready, blend="early", num_inference_steps=6, scheduler="DDIM")
    rendered = ready.engine.sampler.pictures(recipe, ready.engine.sampler.encode(recipe), [0.3, 0.8], lambda: False)
    stock = StockSampler(ready, recipe)
    for picture, fraction in zip(rendered, [0.3, 0.8], strict=True):
        assert np.abs(picture.numpy() - stock.render_early(fraction)).max() <= 1e-5


@pytest.mark.parametrize(("threads", "micro_batch"), [(1, 5), (2, 3)])
@pytest.mark.parametrize("model", ["plain", pytest.param(str(ATELIER), id="atelier")])
def test_the_bits_of_a_blended_frame_do_not_depend_on_its_place(loaded_model, model, threads, micro_batch):
    """The early blend and the steps without guidance have passes of other sizes than the plain ones."""
    ready = loaded_model(model)
    with torch_with(threads):
        sampler = Sampler(ready.engine.sampler.weights, micro_batch)
        recipe = recipe_of(ready, blend="early", guidance_interval=(0, 0.4))
        leg, fractions = sampler.encode(recipe), [0.1 + i / 5 for i in range(micro_batch)]
        here = sampler.pictures(recipe, leg, fractions, lambda: False)
        moved = sampler.pictures(recipe, leg, [*fractions[1:], fractions[0]], lambda: False)
        assert torch.equal(here[[*range(1, micro_batch), 0]], moved)


def test_steps_outside_the_guidance_interval_have_half_the_batch(loaded_model):
    """The interval saves time, and the whole interval is the same as none."""
    ready = loaded_model("plain")
    sizes = []
    hook = ready.engine.sampler.weights.pipeline.unet.register_forward_hook(
        lambda _, given, __: sizes.append(len(given[0]))
    )
    steps = {"num_inference_steps": 4, "scheduler": "DDIM"}
    recipes = [recipe_of(ready, guidance_interval=interval, **steps) for interval in ((0.25, 0.75), (0, 1), None)]
    try:
        leg = ready.engine.sampler.encode(recipes[0])
        some, whole, none = (ready.engine.sampler.pictures(recipe, leg, [0.3], lambda: False) for recipe in recipes)
    finally:
        hook.remove()
    assert sizes[:4] == [4, 8, 8, 4]
    assert torch.equal(whole, none)
    assert not torch.equal(some, none)


def test_a_second_micro_batch_gives_the_same_bytes(loaded_model):
    """A shard may be longer than a micro-batch; its last one is padded."""
    ready = loaded_model("plain")
    recipe = recipe_of(ready)
    leg = ready.engine.sampler.encode(recipe)
    (alone,) = ready.engine.sampler.frames(recipe, leg, [0.3])
    *_, last = ready.engine.sampler.frames(recipe, leg, [0.0, 0.1, 0.2, 0.25, 0.3])
    assert alone.png == last.png


def test_a_replica_without_batch_invariance_does_not_become_ready(settings_for):
    """If a library returns other bits for another place, an operator must know what to set."""
    ready = load_model(settings_for("plain"))
    unet = ready.engine.sampler.weights.pipeline.unet
    unet.register_forward_hook(
        lambda _unet, _given, noise: (noise[0] + 1e-4 * torch.eye(len(noise[0]))[0, :, None, None, None],)
    )
    ready.engine.sampler.warm_up(ready.answer.card, strict=False)
    assert not ready.engine.sampler.batch_invariant, "a GPU is used all the same, and tells"
    assert ready.engine.sampler.features, "what it offers is not less exact than the rest"
    with pytest.raises(UnsuitableModel, match="MOMALISA_THREADS"):
        ready.engine.sampler.warm_up(ready.answer.card)


def test_a_replica_does_not_offer_the_early_blend_where_its_passes_are_not_batch_invariant(settings_for):
    """It still renders everything else, unless its card needs steps without guidance."""
    ready = load_model(settings_for("plain"))
    card = ready.answer.card

    def disturb(_unet: object, _given: object, noise: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        here = noise[0]
        return (here + 1e-4 * torch.eye(len(here))[0, :, None, None, None] * (len(here) == card.micro_batch),)

    ready.engine.sampler.weights.pipeline.unet.register_forward_hook(disturb)
    ready.engine.sampler.warm_up(card)
    assert (ready.answer.features, ready.engine.sampler.features) == (("early_blend", *FROM_PICTURES), FROM_PICTURES)
    with pytest.raises(UnsuitableModel, match="MOMALISA_THREADS"):
        ready.engine.sampler.warm_up(card.model_copy(update={"guidance_interval": (0.2, 0.8)}))


def test_another_instance_gives_the_same_bytes(loaded_model, settings_for):
    """Two replicas with equal fingerprints are interchangeable."""
    one, other = loaded_model("wide"), load_model(settings_for("wide"))
    recipe = recipe_of(one)
    assert one.answer == other.answer
    first, second = (
        [frame.png for frame in ready.engine.sampler.frames(recipe, ready.engine.sampler.encode(recipe), [0.2, 0.6])]
        for ready in (one, other)
    )
    assert first == second


def test_sizes_other_than_the_default_are_rendered(loaded_model):
    """Every size that the card allows, wide or high."""
    ready = loaded_model("plain")
    recipe = recipe_of(ready, width=48, height=24)
    (frame,) = ready.engine.sampler.frames(recipe, ready.engine.sampler.encode(recipe), [0.5])
    assert Image.open(io.BytesIO(frame.png)).size == (48, 24)


def test_a_seed_decides_the_picture(loaded_model):
    """The same prompts with another seed are another walk."""
    ready = loaded_model("plain")
    one, other = (
        next(ready.engine.sampler.frames(recipe, ready.engine.sampler.encode(recipe), [0.5])).png
        for recipe in (recipe_of(ready, seed=1), recipe_of(ready, seed=2))
    )
    assert one != other


def test_rendering_stops_between_two_steps(loaded_model):
    """A disconnected caller must not use the device for the rest of a batch."""
    ready = loaded_model("plain")
    recipe = recipe_of(ready, num_inference_steps=10)
    stop = iter([False, False, True])
    calls = []
    hook = ready.engine.sampler.weights.pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
    try:
        with pytest.raises(Cancelled):
            list(ready.engine.sampler.frames(recipe, ready.engine.sampler.encode(recipe), [0.5], lambda: next(stop)))
    finally:
        hook.remove()
    assert len(calls) == 2


def test_the_part_of_a_prompt_beyond_the_limit_is_quoted(loaded_model):
    """The plain model reads 20 tokens with begin and end, and each letter is a token, so it reads 18 letters."""
    ready = loaded_model("plain")
    leg = ready.engine.sampler.encode(recipe_of(ready, start="abcdefghijklmnopqr stu vw", end="abcdefghijklmnopqr"))
    (warning,) = leg.warnings
    assert (warning.prompt, warning.truncated) == ("start", "stu vw")
    assert "18 tokens" in warning.detail


@pytest.mark.parametrize("scheduler", NOISE)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_works_with_every_scheduler(loaded_model, settings_for, dtype, scheduler):
    """GPUs use it. A cosine schedule begins at a sigma of 20,291, at which noise in float16 would overflow."""
    weights, whole = load(settings_for("wide", dtype=dtype)), loaded_model("wide").engine.sampler
    recipe = recipe_of(loaded_model("wide"), scheduler=scheduler, width=128, height=128, num_inference_steps=6)
    half = Sampler(weights, 2)
    rendered = half.pictures(recipe, half.encode(recipe), [0.0, 1.0], lambda: False)
    exact = whole.pictures(recipe, whole.encode(recipe), [0.0, 1.0], lambda: False)
    assert (rendered - exact).abs().mean() < 0.02
    assert rendered.std() > 0.01, "the picture is uniform, so the test shows nothing"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_picture_with_invalid_numbers_is_never_returned(settings_for, value):
    """Clamping would turn infinity into a white picture, which would be stored for ever."""
    ready = load_model(settings_for("plain"))
    ready.engine.sampler.weights.pipeline.vae.decoder.register_forward_hook(
        lambda *given: torch.full_like(given[-1], value)
    )
    recipe = recipe_of(ready)
    with pytest.raises(NotANumber, match="check the weights") as refused:
        list(ready.engine.sampler.frames(recipe, ready.engine.sampler.encode(recipe), [0.5]))
    assert "MOMALISA_DTYPE" not in str(refused.value), "float32 is the largest precision"
