"""The two halves of the model contract, held against each other: what one writes the other reads."""

import base64
import json

import pytest
from pydantic import ValidationError

from momalisa_api.fleet import wire as api
from momalisa_api.walks.model_card import About, ModelCard
from momalisa_model import wire as model
from tests.support.factories import CARD, spec


def test_a_replica_reads_what_the_api_asks():
    """Field by field: the replica refuses what it does not know, so a name that differs shows here."""
    walk = spec(seed=2**32 - 1, guidance_scale=4)
    asked = json.dumps(api.render_request(walk.recipes(2**32 - 1)[0], [0.0, 0.1, 1.0]))
    read = model.RenderRequest.model_validate_json(asked)
    assert read.recipe.num_inference_steps == walk.steps
    assert list(read.fractions) == [0.0, 0.1, 1.0]
    told = read.recipe.model_dump(exclude={"num_inference_steps"})
    assert told == walk.recipes(2**32 - 1)[0].model_dump(exclude={"steps"})


def test_fractions_survive_the_way_there_and_back_bit_for_bit():
    """A frame is keyed by its fraction: the last bit lost would render it again for ever."""
    fractions = [index / 48 for index in range(49)]
    asked = json.dumps(api.render_request(spec().recipes(0)[0], fractions))
    answered = [
        model.FrameLine(fraction=fraction, png="", seconds=0.1).model_dump_json()
        for fraction in model.RenderRequest.model_validate_json(asked).fractions
    ]
    frames = [api.read_line(json.loads(line)) for line in answered]
    assert [frame.fraction for frame in frames if isinstance(frame, api.RenderedFrame)] == fractions


def test_the_api_reads_what_a_replica_answers():
    """Head with warnings, frames, and the problem that ends an answer too early."""
    truncated = model.Truncated(prompt="start", truncated="with a hat", detail="Ignored: with a hat.")
    head = model.Head(model="m", revision="r", fingerprint="f", warnings=(truncated,))
    frame = model.FrameLine(fraction=0.5, png=base64.b64encode(b"png").decode(), seconds=0.1)
    trouble = model.ProblemLine(problem={"title": "Out of memory", "detail": "Ask for less."})
    read_head = api.Head.model_validate_json(head.model_dump_json())
    assert read_head.warnings[0].detail == "Ignored: with a hat."
    read_frame = api.read_line(json.loads(frame.model_dump_json()))
    assert isinstance(read_frame, api.RenderedFrame)
    assert (read_frame.fraction, read_frame.png) == (0.5, b"png")
    read_trouble = api.read_line(json.loads(trouble.model_dump_json()))
    assert isinstance(read_trouble, api.RenderProblem)
    assert read_trouble.problem["detail"] == "Ask for less."


def test_a_mark_is_read_and_its_absence_is_none():
    """Replicas of before there were marks, and those whose model has no safety checker, may leave it out."""
    frame = model.FrameLine(fraction=0.5, png="", seconds=0.1, marked=True).model_dump(mode="json")
    older = {key: it for key, it in frame.items() if key != "marked"}
    read = [api.read_line(line) for line in (frame, {**frame, "marked": False}, older)]
    assert [line.marked for line in read if isinstance(line, api.RenderedFrame)] == [True, False, False]


def test_both_halves_know_the_same_card():
    """One file is given to both: each must read all of it that the other needs."""
    assert set(ModelCard.model_fields) == set(model.ModelCard.model_fields)
    assert set(About.model_fields) == set(model.About.model_fields)
    card = {**CARD, "schedulers": ["DDIMScheduler"], "about": {"examples": [["a", "b"]], "title": "t"}}
    theirs = model.ModelCard.model_validate_json(json.dumps(card))
    ours = ModelCard.model_validate_json(theirs.model_dump_json())
    assert ours == ModelCard.model_validate(card)
    answer = model.ModelAnswer(card=theirs, fingerprint="f" * 16, made_of={"threads": 1})
    assert api.ModelAnswer.model_validate_json(answer.model_dump_json()).card == ours


def test_the_limits_that_the_api_promises_are_the_replicas():
    """A prompt that the api takes in must not fail at a replica."""
    longest = spec(stops=("x" * 1000, "y" * 1000), negative_prompt="z" * 1000)
    model.RenderRequest.model_validate_json(json.dumps(api.render_request(longest.recipes(0)[0], [0.0] * 16)))
    too_long = json.dumps(api.render_request(spec(stops=("x" * 1001, "y")).recipes(0)[0], [0.0]))
    with pytest.raises(ValidationError):
        model.RenderRequest.model_validate_json(too_long)
