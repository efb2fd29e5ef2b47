"""The API's and the model service's halves of the model contract agree: each reads what the other writes."""

import base64
import hashlib
import json
from typing import Any

import pytest
from pydantic import ValidationError

from momalisa_api.fleet import wire as api
from momalisa_api.walks.kinds import EARLY_BLEND, PICTURES
from momalisa_api.walks.model_card import About, ModelCard
from momalisa_model import wire as model
from tests.support.factories import CARD, spec
from tests.support.kinds import CONTENTS, spec_of_kind


def test_a_replica_reads_the_requests_of_the_api():
    """Field by field: the replica refuses unknown fields, so different names fail here."""
    walk = spec(seed=2**32 - 1, guidance_scale=4)
    body = json.dumps(api.render_request(walk.recipes(2**32 - 1)[0], [0.0, 0.1, 1.0]))
    read = model.RenderRequest.model_validate_json(body)
    assert read.recipe.num_inference_steps == walk.steps
    assert list(read.fractions) == [0.0, 0.1, 1.0]
    recipe = read.recipe.model_dump(exclude_unset=True, exclude={"num_inference_steps"})
    assert recipe == {name: value for name, value in walk.recipes(2**32 - 1)[0].content.items() if name != "steps"}


def test_a_replica_reads_the_later_fields_of_recipes_and_gets_none_that_say_nothing():
    """Replicas of older releases refuse unknown fields: they get only recipes that they understand."""
    [plain] = spec().recipes(0)
    later = plain.model_copy(update={"blend": "early", "guidance_interval": (0.25, 1.0)})
    bodies = [api.render_request(recipe, [0.5]) for recipe in (plain, later)]
    assert not {"blend", "guidance_interval"} & bodies[0]["recipe"].keys()
    read = model.RenderRequest.model_validate_json(json.dumps(bodies[1])).recipe
    assert (read.blend, read.guidance_interval) == ("early", (0.25, 1.0))


def test_a_replica_reads_the_pictures_of_the_api():
    """By the hash of the file, which the replica checks; a stop with a picture needs no prompt."""
    crop = {"x": 0, "y": 0, "width": 8, "height": 8}
    stops = ("a giraffe", {"picture": "ab" * 32, "crop": crop})
    [recipe] = spec(stops=stops, strength=0.5, scope="0" * 32).recipes(0)
    body = api.render_request(recipe, [0.5], {picture: b"a file" for picture in recipe.pictures})
    read = model.RenderRequest.model_validate_json(json.dumps(body))
    [(name, file)] = read.pictures.items()
    assert (read.recipe.start_picture, read.recipe.end_picture, read.recipe.strength) == (None, name, 0.5)
    assert (hashlib.sha256(base64.b64decode(file)).hexdigest(), read.recipe.end) == (name, "")
    assert PICTURES == model.PICTURES


@pytest.mark.parametrize("name", CONTENTS)
def test_a_replica_reads_recipes_of_all_kinds(name):
    """With pictures by the hashes of their files, and without what only the api needs to know."""
    [recipe] = spec_of_kind(name).recipes()
    fractions = [0.0, 0.25]
    files: dict[Any, bytes] = {picture: b"of the recipe " + picture.picture.encode() for picture in recipe.pictures}
    files |= {fraction: b"of the clip" for fraction in fractions if recipe.clips}
    body = api.render_request(recipe, fractions, files, extras=recipe.kind in ("into", "apart"))
    read = model.RenderRequest.model_validate_json(json.dumps(body))
    named = {hashlib.sha256(file).hexdigest() for file in files.values()}
    assert (read.named, read.pictures.keys(), len(read.sources or ())) == (named, named, 2 * bool(recipe.clips))
    sent = read.recipe.model_dump(exclude_none=True, exclude={"picture", "style_picture"})
    content = {field: value for field, value in recipe.content.items() if value is not None and field in sent}
    steps = {"num_inference_steps": recipe.content["steps"]} if "num_inference_steps" in sent else {}
    assert sent == content | steps
    assert "0" * 32 not in json.dumps(body), "the scope is a secret"
    assert recipe.features <= {*model.OTHER_KINDS}


def test_extras_are_read_before_frames_and_their_names_are_checked():
    """They become parts of keys in the bucket."""
    line = model.ExtraLine(extra="depth.png", media_type="image/png", data=base64.b64encode(b"png").decode())
    read = api.read_line(json.loads(line.model_dump_json()))
    assert isinstance(read, api.RenderedExtra)
    assert (read.name, read.media_type, read.content) == ("depth.png", "image/png", b"png")
    for name in ("../x.png", "depth.svg", "x" * 41 + ".png", "Depth.png", "depth.png\n"):
        with pytest.raises(ValueError, match="pattern"):
            api.read_line({**json.loads(line.model_dump_json()), "extra": name})


def test_what_only_some_models_have_is_absent_from_the_cards_of_others():
    """Apis of the last release compare cards."""
    card = json.loads(model.ModelCard.model_validate_json(json.dumps(CARD)).model_dump_json())
    assert not {"engine", "styles"} & (card.keys() | ModelCard.model_validate(card).model_dump().keys())
    styled = {
        **CARD,
        "engine": "style",
        "styles": [{"name": "glass", "title": "Glass", "prompt": "p", "strength": 0.5}],
    }
    of_model = model.ModelCard.model_validate_json(json.dumps(styled))
    assert ModelCard.model_validate_json(of_model.model_dump_json()) == ModelCard.model_validate(styled)


def test_fractions_are_transferred_in_both_directions_bit_for_bit():
    """A fraction is part of a frame's key: with a changed bit, the frame would be rendered again for ever."""
    fractions = [index / 48 for index in range(49)]
    body = json.dumps(api.render_request(spec().recipes(0)[0], fractions))
    answered = [
        model.FrameLine(fraction=fraction, png="", seconds=0.1).model_dump_json()
        for fraction in model.RenderRequest.model_validate_json(body).fractions
    ]
    frames = [api.read_line(json.loads(line)) for line in answered]
    assert [frame.fraction for frame in frames if isinstance(frame, api.RenderedFrame)] == fractions


def test_the_api_reads_the_responses_of_a_replica():
    """The head with warnings, frames, and a problem that ends the response early."""
    truncated = model.Truncated(prompt="start", truncated="with a hat", detail="Ignored: with a hat.")
    head = model.Head(model="m", revision="r", fingerprint="f", warnings=(truncated,))
    frame = model.FrameLine(fraction=0.5, png=base64.b64encode(b"png").decode(), seconds=0.1)
    problem = model.ProblemLine(problem={"title": "Out of memory", "detail": "Ask for less."})
    read_head = api.Head.model_validate_json(head.model_dump_json())
    assert read_head.warnings[0].detail == "Ignored: with a hat."
    read_frame = api.read_line(json.loads(frame.model_dump_json()))
    assert isinstance(read_frame, api.RenderedFrame)
    assert (read_frame.fraction, read_frame.png) == (0.5, b"png")
    read_problem = api.read_line(json.loads(problem.model_dump_json()))
    assert isinstance(read_problem, api.RenderProblem)
    assert read_problem.problem["detail"] == "Ask for less."


def test_a_mark_is_read_and_a_missing_one_means_unmarked():
    """Older replicas, and replicas whose model has no safety checker, may omit it."""
    frame = model.FrameLine(fraction=0.5, png="", seconds=0.1, marked=True).model_dump(mode="json")
    older = {key: it for key, it in frame.items() if key != "marked"}
    read = [api.read_line(line) for line in (frame, {**frame, "marked": False}, older)]
    assert [line.marked for line in read if isinstance(line, api.RenderedFrame)] == [True, False, False]


def test_both_services_read_the_same_model_card():
    """Both get the same file: each must keep all the fields that the other needs."""
    of_replicas = {"device", "engine", "styles"}
    assert set(ModelCard.model_fields) | of_replicas == set(model.ModelCard.model_fields)
    assert set(About.model_fields) == set(model.About.model_fields)
    card = {**CARD, "schedulers": ["DDIMScheduler"], "about": {"examples": [["a", "b"]], "title": "t"}}
    of_model = model.ModelCard.model_validate_json(json.dumps(card))
    of_api = ModelCard.model_validate_json(of_model.model_dump_json())
    assert of_api == ModelCard.model_validate(card)
    answer = model.ModelAnswer(
        card=of_model, fingerprint="f" * 16, made_of={"threads": 1}, features=(model.EARLY_BLEND,)
    )
    read = api.ModelAnswer.model_validate_json(answer.model_dump_json())
    assert (read.card, read.features) == (of_api, (EARLY_BLEND,))


def test_the_api_and_the_replica_have_the_same_limits():
    """A replica must not refuse a prompt that the API has accepted."""
    longest = spec(stops=("x" * 1000, "y" * 1000), negative_prompt="z" * 1000)
    model.RenderRequest.model_validate_json(json.dumps(api.render_request(longest.recipes(0)[0], [0.0] * 16)))
    too_long = json.dumps(api.render_request(spec(stops=("x" * 1001, "y")).recipes(0)[0], [0.0]))
    with pytest.raises(ValidationError):
        model.RenderRequest.model_validate_json(too_long)
