"""Pictures as stops: with every scheduler, with the embedded model, and over HTTP."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from momalisa_model.engines.picture_stops import KEPT_STOPS
from momalisa_model.engines.sampler import Sampler
from momalisa_model.lifecycle import LoadedModel, load_model
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.schedulers import SCHEDULERS, failure
from momalisa_model.settings import embedded_model
from momalisa_model.wire import PICTURES
from tests.support.model_server import recipe_for

ATELIER = Path(embedded_model())
STRENGTH, STEPS = 0.8, 5


def landscape(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A picture with large soft shapes, as photographs have them: (height, width, 3) uint8."""
    colours = np.random.default_rng(seed).integers(40, 216, (4, 4, 3), np.uint8)
    return np.array(Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC))


def psnr(picture: np.ndarray, original: np.ndarray) -> float:
    """Both in [0, 1], in dB."""
    return float(-10 * np.log10(((picture - original) ** 2).mean()))


class Walk:
    """Frames between two pictures with a loaded model."""

    def __init__(self, ready: LoadedModel, **changes: Any) -> None:
        self.ready = ready
        plain = {"start_picture": "a", "end_picture": "b", "strength": STRENGTH, "num_inference_steps": STEPS}
        # Checked as requests are, but for the names of the pictures.
        self.recipe = BetweenRecipe(**recipe_for(ready)).model_copy(update=plain | changes)
        size = (self.recipe.width, self.recipe.height)
        self.files = {key: landscape(*size, seed) for seed, key in enumerate("ab")}

    def pictures(self, *fractions: float) -> torch.Tensor:
        sampler = self.ready.engine.sampler
        return sampler.pictures(self.recipe, sampler.encode(self.recipe), fractions, lambda: False, self.files)


def fraction_of_level(begins: float) -> float:
    """Where a frame begins in this step, on the first half of a leg."""
    return math.asin(((1 - begins / STEPS) / STRENGTH) ** 2) / math.pi


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("model", ["plain", "wide"])
def test_frames_change_continuously_where_they_begin_a_step_earlier(loaded_model, model, scheduler):
    """In levels of whole steps, a viewer would see each of them. Noise and velocity are predicted."""
    ready = loaded_model(model)
    if failure(scheduler, ready.engine.sampler.weights.pipeline.scheduler.config):
        pytest.skip("this scheduler is not offered for this model")
    walk = Walk(ready, scheduler=scheduler)
    for step in range(2, STEPS):
        at = fraction_of_level(step)
        before, after = walk.pictures(at - 1e-7, at + 1e-7)
        assert (before - after).abs().max() <= 1e-3, step
    start, almost = walk.pictures(0.0, 1e-12)
    assert (start - almost).abs().max() <= 1e-3
    assert (walk.pictures(0.5)[0] - start).abs().max() > 0.01, "nothing moves, so the test shows nothing"


def test_the_ends_are_as_near_to_the_pictures_as_the_autoencoder_can_be(loaded_model):
    """With the embedded model: within 0.1 dB of what the autoencoder alone makes of them."""
    walk = Walk(loaded_model(str(ATELIER)))
    vae = walk.ready.engine.sampler.weights.pipeline.vae
    for key, picture in zip("ab", walk.pictures(0.0, 1.0).numpy(), strict=True):
        original = walk.files[key] / np.float32(255)
        with torch.no_grad():
            pixels = torch.from_numpy(original * 2 - 1).permute(2, 0, 1)[None]
            coded = vae.decode(vae.encode(pixels).latents).sample[0].permute(1, 2, 0) / 2 + 0.5
        own = psnr(coded.clamp(0, 1).numpy(), original)
        assert psnr(picture, original) >= own - 0.1
        assert own > 25, "the autoencoder of the embedded model keeps pictures"


def test_a_shard_between_pictures_needs_no_more_passes_than_the_strongest_frame(loaded_model):
    """Frames of many levels cost less than those of prompts, which need all steps."""
    ready = loaded_model("plain")
    passes: list[int] = []
    hook = ready.engine.sampler.weights.pipeline.unet.register_forward_hook(lambda *_: passes.append(1))
    try:
        Walk(ready, scheduler="DDIM", num_inference_steps=10, strength=0.6).pictures(0.0, 0.01, 0.5)
    finally:
        hook.remove()
    assert len(passes) == 6


def test_other_passes_keep_their_places_in_the_whole_schedule(loaded_model):
    """A guidance interval and the early blend are shares of all steps, also of those that are left out."""
    ready = loaded_model("plain")
    sizes: list[int] = []
    hook = ready.engine.sampler.weights.pipeline.unet.register_forward_hook(
        lambda _, given, __: sizes.append(len(given[0]))
    )
    walk = Walk(ready, scheduler="DDIM", num_inference_steps=10, strength=0.5, guidance_interval=(0.7, 0.9))
    try:
        walk.pictures(0.5)
    finally:
        hook.remove()
    assert sizes == [4, 4, 8, 8, 4]
    late = Walk(ready, scheduler="DDIM", num_inference_steps=10, strength=0.5)
    early = Walk(ready, scheduler="DDIM", num_inference_steps=10, strength=0.5, blend="early")
    assert torch.equal(late.pictures(0.5), early.pictures(0.5)), "the first third of the steps is left out"


def test_a_picture_without_a_prompt_gets_that_of_a_stop_without_a_picture(loaded_model):
    """With none, models paint something vague. Between two pictures, the recipe decides."""
    plain = Walk(loaded_model("plain"))
    beside_prompt, both, beside_picture = (
        plain.ready.engine.sampler.encode(plain.recipe.model_copy(update=changes))
        for changes in ({"start": "", "end_picture": None}, {"start": plain.recipe.end}, {"start": ""})
    )
    assert torch.equal(beside_prompt.start["prompt_embeds"], both.start["prompt_embeds"])
    assert not torch.equal(beside_picture.start["prompt_embeds"], both.start["prompt_embeds"])


def test_what_was_computed_for_a_stop_is_kept_and_bounded(loaded_model, monkeypatch):
    """A walk has many shards, and a replica many walks."""
    ready = loaded_model("plain")
    runs: list[int] = []
    hook = ready.engine.sampler.weights.pipeline.vae.encoder.register_forward_hook(lambda *_: runs.append(1))
    walk = Walk(ready, start_picture="of this test", end_picture="b")
    walk.files["of this test"] = walk.files["a"]
    try:
        first, second = walk.pictures(0.1), walk.pictures(0.1)
        encoded = len(runs)
        many = {f"{number} of many": walk.files["a"] for number in range(KEPT_STOPS)}
        walk.files |= many
        for key in many:
            walk.recipe = walk.recipe.model_copy(update={"start_picture": key, "num_inference_steps": 1})
            walk.pictures(0.1)
        walk.recipe = walk.recipe.model_copy(update={"start_picture": "of this test"})
        walk.pictures(0.1)
    finally:
        hook.remove()
    assert torch.equal(first, second)
    assert encoded <= 2
    assert len(runs) == encoded + KEPT_STOPS + 1


def test_a_model_whose_autoencoder_cannot_encode_takes_no_pictures(settings_for):
    """It renders walks of prompts all the same."""
    ready = load_model(settings_for("plain"))

    def fail(*_: object) -> None:
        raise NotImplementedError

    ready.engine.sampler.weights.pipeline.vae.encoder.register_forward_pre_hook(fail)
    sampler = Sampler(ready.engine.sampler.weights, ready.card.micro_batch)
    sampler.warm_up(ready.card)
    assert PICTURES in ready.answer.features
    assert PICTURES not in sampler.features


def test_a_replica_takes_no_pictures_where_their_frames_are_not_batch_invariant(settings_for):
    """They would be stored for ever."""
    ready = load_model(settings_for("plain"))
    encoded: list[bool] = []
    pipeline = ready.engine.sampler.weights.pipeline
    pipeline.vae.encoder.register_forward_hook(lambda *_: encoded.append(True))

    def disturb(_unet: object, _given: object, noise: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (noise[0] + bool(encoded) * 1e-4 * torch.eye(len(noise[0]))[0, :, None, None, None],)

    pipeline.unet.register_forward_hook(disturb)
    sampler = Sampler(ready.engine.sampler.weights, ready.card.micro_batch)
    sampler.warm_up(ready.card)
    assert sampler.features == ("early_blend",)


def sent(recipe: dict[str, Any], *pictures: np.ndarray, **more: Any) -> dict[str, Any]:
    """A request whose stops are these pictures."""
    files = []
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        files.append(file.getvalue())
    keys = [hashlib.sha256(file).hexdigest() for file in files]
    recipe = recipe | {"start": "", "start_picture": keys[0], "strength": 0.8}
    recipe |= {"end": "", "end_picture": keys[-1]} if len(keys) > 1 else {}
    encoded = {key: base64.b64encode(file).decode() for key, file in zip(keys, files, strict=True)}
    return {"recipe": recipe, "fractions": [0.0, 0.5, 1.0], "pictures": encoded} | more


def test_pictures_are_stops_over_http(server):
    """As JSON lines: the frames that the sampler renders."""
    ready = server.ready
    size = (ready.card.width, ready.card.height)
    body = sent(recipe_for(ready), landscape(*size), landscape(*size, seed=1))
    answer = httpx.post(server.url + "/v1/render", json=body, timeout=60)
    frames = [json.loads(line) for line in answer.text.splitlines()[1:]]
    recipe, sampler = BetweenRecipe(**body["recipe"]), ready.engine.sampler
    files = {recipe.start_picture: landscape(*size), recipe.end_picture: landscape(*size, seed=1)}
    rendered = sampler.frames(recipe, sampler.encode(recipe), body["fractions"], files=files)
    assert [base64.b64decode(frame["png"]) for frame in frames] == [frame.png for frame in rendered]
    assert frames[0]["png"] != frames[2]["png"]


def test_the_largest_pictures_of_the_card_fit_into_a_request(server):
    """Noise of the largest size, twice, beside a long prompt; and the rest of a body is limited as before."""
    ready = server.ready
    side = ready.card.max_size
    noise = [np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8) for seed in range(2)]
    recipe = recipe_for(ready, width=side, height=side, num_inference_steps=1, negative_prompt="x" * 1000)
    body = json.dumps(sent(recipe, *noise, fractions=[0.0]))
    assert len(body) > 262_144 or side < 256
    answer = httpx.post(server.url + "/v1/render", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    limit = server.app.state.replica.max_body_bytes()
    too_large = httpx.post(server.url + "/v1/render", content=b" " * (limit + 1))
    assert too_large.status_code == 413


def test_a_wrong_picture_is_refused_before_anything_is_queued(server):
    """With the name of the picture and what it must be."""
    body = sent(recipe_for(server.ready), landscape(8, 8))
    before = server.metric("shards_total")
    answer = httpx.post(server.url + "/v1/render", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == f"pictures.{body['recipe']['start_picture']}"
    assert "pixels, as the recipe says" in answer.json()["detail"]
    assert server.metric("shards_total") == before
