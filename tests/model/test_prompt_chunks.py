"""Prompts that are longer than CLIP reads, in chunks: each chunk is encoded as the text encoder itself does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from momalisa_model.engines.sampler import Sampler
from momalisa_model.fingerprints import fingerprint, made_of
from momalisa_model.model_card import derive_card
from momalisa_model.problems import UnsuitableModel
from momalisa_model.prompts import Leg
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.settings import Settings
from momalisa_model.weights import Weights, load
from tests.support.small_families import small_family

ROOM = 75
SHORT = "a b c"
# One token for each letter.
LONG = " ".join("abcdefgh"[place % 7] for place in range(2 * ROOM + 10))


@pytest.fixture(scope="module")
def weights_of(tmp_path_factory) -> Callable[[str], Weights]:
    """Each family is saved and loaded once."""
    base, loaded = tmp_path_factory.mktemp("families"), {}

    def named(name: str) -> Weights:
        if name not in loaded:
            small_family(name).save_pretrained(base / name, safe_serialization=True)
            loaded[name] = load(Settings(model_id=str(base / name), device="cpu", threads=1))
        return loaded[name]

    return named


@pytest.fixture(params=["sd", "sdxl", "lcm"])
def weights(request, weights_of) -> Weights:
    return weights_of(request.param)


def recipe_of(weights: Weights, **changes: Any) -> BetweenRecipe:
    named = {"model": weights.model, "revision": weights.revision, "scheduler": derive_card(weights).scheduler}
    settings = {"width": 32, "height": 32, "num_inference_steps": 2, "guidance_scale": 4.0, "seed": 7}
    return BetweenRecipe(**{"start": SHORT, "end": LONG, "negative_prompt": "h"} | named | settings | changes)


def leg_of(weights: Weights, chunks: int, **changes: Any) -> Leg:
    return Sampler(weights, 2, prompt_chunks=chunks).encode(recipe_of(weights, **changes))


def pictures(weights: Weights, chunks: int, fractions: list[float], **changes: Any) -> torch.Tensor:
    sampler, recipe = Sampler(weights, 3, prompt_chunks=chunks), recipe_of(weights, **changes)
    return sampler.pictures(recipe, sampler.encode(recipe), fractions, lambda: False)


@torch.no_grad()
def encoded_by_hand(weights: Weights, prompt: str, chunk: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One chunk through the text encoders themselves: (77, width), and SDXL's pooled embedding."""
    pipeline, embeddings, pooled = weights.pipeline, [], None
    for number in ("", "_2"):
        tokenizer = getattr(pipeline, f"tokenizer{number}", None)
        if not tokenizer:
            continue
        tokens = tokenizer(prompt, add_special_tokens=False).input_ids[chunk * ROOM : (chunk + 1) * ROOM]
        row = [0, *tokens, *[1] * (76 - len(tokens))]
        output = getattr(pipeline, f"text_encoder{number}")(torch.tensor([row]), output_hidden_states=True)
        two = hasattr(pipeline, "tokenizer_2")
        embeddings.append(output.hidden_states[-2] if two else output.last_hidden_state)
        pooled = output.text_embeds[0] if number else pooled
    return torch.cat(embeddings, dim=-1)[0], pooled


def test_each_chunk_is_what_the_text_encoder_makes_of_it(weights):
    """With begin and end tokens of its own; both prompts have the same number of chunks, the negative one too."""
    leg = leg_of(weights, 4)
    for embeddings, prompt in ((leg.start, SHORT), (leg.end, LONG)):
        chunks = [encoded_by_hand(weights, prompt, chunk) for chunk in range(3)]
        torch.testing.assert_close(embeddings["prompt_embeds"], torch.cat([one for one, _ in chunks]))
        if "pooled_prompt_embeds" in embeddings:
            torch.testing.assert_close(embeddings["pooled_prompt_embeds"], chunks[0][1])
    negative = leg.negative.get("negative_prompt_embeds")
    assert negative is None or len(negative) == 3 * 77


def test_short_prompts_keep_their_bits(weights):
    """Frames that are stored stay valid if the option is set later."""
    once, more = leg_of(weights, 1, end="d e"), leg_of(weights, 4, end="d e")
    for name in ("start", "end", "negative"):
        one, other = getattr(once, name), getattr(more, name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_there_is_no_step_before_an_end(weights):
    """One prompt has one chunk, the other has three: attention to further tokens must not begin all at once."""
    almost_start, start, end = pictures(weights, 4, [1e-6, 0.0, 1.0])
    almost_end = pictures(weights, 4, [1 - 1e-6])[0]
    assert (almost_start - start).abs().max() <= 1e-5
    assert (almost_end - end).abs().max() <= 1e-5


def test_the_end_of_a_long_prompt_counts(weights):
    """Without the option it is cut."""
    changed = LONG[:-1] + "h"
    assert torch.equal(pictures(weights, 1, [1.0]), pictures(weights, 1, [1.0], end=changed))
    assert not torch.equal(pictures(weights, 3, [1.0]), pictures(weights, 3, [1.0], end=changed))


@pytest.mark.parametrize(("chunks", "read"), [(1, 75), (2, 150), (3, None)])
def test_what_is_beyond_the_last_chunk_is_reported(weights, chunks, read):
    """Not one token more or less."""
    leg = leg_of(weights, chunks)
    cut = [warning.truncated.split() for warning in leg.warnings]
    assert cut == ([LONG.split()[read:]] if read else [])
    if read:
        assert f"reads {read} tokens" in leg.warnings[0].detail


def test_a_long_negative_prompt_has_all_of_its_chunks(weights_of):
    """And the prompts beside it."""
    leg = leg_of(weights_of("sd"), 4, end=SHORT, negative_prompt=LONG)
    assert {len(leg.start["prompt_embeds"]), len(leg.negative["negative_prompt_embeds"])} == {3 * 77}


def test_the_card_says_how_long_a_prompt_can_be(weights_of):
    """And replicas that read different parts of a prompt have different fingerprints. Off, the card is as before."""
    sd = weights_of("sd")
    assert "prompt_chunks" not in derive_card(sd).model_dump_json()
    card = derive_card(sd, {"prompt_chunks": 3})
    assert (card.prompt_chunks, card.token_limit) == (3, 2 + 3 * ROOM)
    assert fingerprint(made_of(sd, 4, prompt_chunks=3)) != fingerprint(made_of(sd, 4))
    for wrong in ("three", 0, 9):
        with pytest.raises(UnsuitableModel, match="prompt_chunks"):
            derive_card(sd, {"prompt_chunks": wrong})


def test_families_with_other_text_encoders_refuse_it(weights_of):
    """Theirs read longer prompts anyway, or have masks."""
    with pytest.raises(UnsuitableModel, match=r"prompt_chunks, which models of the family FLUX\.1"):
        derive_card(weights_of("flux"), {"prompt_chunks": 2})
