"""Deep blocks of a UNet that are not computed in each step: which steps, and that a frame stays a pure function."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from momalisa_model.cancellation import Cancelled, never
from momalisa_model.engines.deep_cache import deep_blocks
from momalisa_model.engines.sampler import Sampler
from momalisa_model.fingerprints import fingerprint, made_of
from momalisa_model.placement import place
from momalisa_model.problems import UnsuitableModel
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.wire import DeviceOptions
from tests.support.small_families import small_family

MICRO_BATCH = 3
RECIPE = {"start": "a red sun", "end": "blue waves", "negative_prompt": "", "seed": 7, "num_inference_steps": 9}


@pytest.fixture
def sampler(loaded_model) -> Sampler:
    return Sampler(loaded_model("plain").engine.sampler.weights, MICRO_BATCH, deep_cache=2)


def pictures(sampler: Sampler, fractions: list[float], should_stop: Any = never, **changes: Any) -> torch.Tensor:
    weights = sampler.weights
    named = {"width": 32, "height": 32, "model": weights.model, "revision": weights.revision}
    recipe = BetweenRecipe(**RECIPE | named | {"guidance_scale": 4.0, "scheduler": "DDIM"} | changes)
    return sampler.pictures(recipe, sampler.encode(recipe), fractions, should_stop)


def test_deep_blocks_are_computed_in_every_second_step_after_the_first_third(sampler):
    """Nine steps: the blocks are computed in the steps 0 to 3, 5 and 7. The others are computed in all."""
    unet, deep, shallow = sampler.weights.pipeline.unet, [], []
    hooks = [block.resnets[0].register_forward_pre_hook(lambda *_: deep.append(1)) for block in deep_blocks(unet)]
    hooks.append(unet.down_blocks[0].register_forward_pre_hook(lambda *_: shallow.append(1)))
    changed = pictures(sampler, [0.3])
    for hook in hooks:
        hook.remove()
    assert (len(deep), len(shallow)) == (6 * len(deep_blocks(unet)), 9)
    plain = pictures(Sampler(sampler.weights, MICRO_BATCH), [0.3])
    assert 0 < (changed - plain).abs().max() < 0.1, "other pictures, and nothing stays in the network"


@pytest.mark.parametrize("more", [{}, {"guidance_interval": (0.2, 0.7), "blend": "early"}, {"scheduler": "Heun"}])
def test_a_frames_bits_do_not_depend_on_its_neighbours(sampler, more):
    """What is reused belongs to the frame itself, also where passes have other numbers of frames."""
    alone = pictures(sampler, [0.3], **more)[0]
    for place_of_it in range(MICRO_BATCH):
        fractions = [0.05, 0.5, 0.9]
        fractions[place_of_it] = 0.3
        assert torch.equal(alone, pictures(sampler, fractions, **more)[place_of_it])


def test_the_early_blend_keeps_both_stops(sampler):
    """Its second pass for the farther prompt must not be what a later step reuses."""
    plain, early = (pictures(sampler, [0.0, 0.4, 1.0], blend=blend) for blend in ("embeddings", "early"))
    assert torch.equal(plain[[0, 2]], early[[0, 2]])
    assert not torch.equal(plain[1], early[1])


def test_a_run_that_was_stopped_leaves_nothing_behind(sampler):
    """The next one computes its own blocks."""
    before, answers = pictures(sampler, [0.3]), iter([False] * 6 + [True])
    with pytest.raises(Cancelled):
        pictures(sampler, [0.9], lambda: next(answers))
    assert torch.equal(before, pictures(sampler, [0.3]))


def test_replicas_with_and_without_it_have_different_fingerprints(sampler):
    """Their pictures differ."""
    parts = [made_of(sampler.weights, MICRO_BATCH, DeviceOptions(deep_cache=interval)) for interval in (1, 2, 3)]
    assert [part.get("options") for part in parts] == [None, "deep_cache 2", "deep_cache 3"]
    assert len({fingerprint(part) for part in parts}) == 3


def test_a_model_without_a_unet_is_refused_with_it():
    """It would be without effect."""
    with pytest.raises(UnsuitableModel, match="deep_cache"):
        place(small_family("flux"), DeviceOptions(deep_cache=2), torch.device("cpu"))
