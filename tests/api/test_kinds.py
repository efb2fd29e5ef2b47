"""Specs and recipes of the other kinds of walks than those between stops: stored, identified, planned."""

import json

import pytest

from momalisa_api.walks.forecast import most_pictures, round_of
from momalisa_api.walks.kinds import KINDS
from momalisa_api.walks.rounds import first_layout
from momalisa_api.walks.spec import spec_from_stored
from momalisa_api.walks.walk import recipes_of
from tests.support.kinds import COMMON, CONTENTS, OF_PROMPT, STYLE_PICTURE, spec_of_kind


@pytest.mark.parametrize("name", CONTENTS)
def test_a_spec_is_read_as_it_was_stored(name):
    """In a version that older workers refuse, with the scope that is in no dump."""
    walk = spec_of_kind(name)
    content, version = walk.to_stored()
    assert (version, content["kind"], content["scope"]) == (6, name.split()[0], COMMON["scope"])
    read = spec_from_stored(json.loads(json.dumps(content)), version)
    assert (read, read.id) == (walk, walk.id)
    assert "scope" not in walk.model_dump()


def test_there_is_a_spec_of_each_kind():
    assert {"between", *(content["kind"] for content in CONTENTS.values())} == set(KINDS)


@pytest.mark.parametrize("name", CONTENTS)
def test_every_field_decides_the_id_of_the_walk_and_that_of_its_frames(name):
    """But for what only decides its films."""
    changes = {"width": 46, "model": "other", "scope": "1" * 32, "amplitude": 0.6, "motion": "zoom", "threshold": 0.4}
    changes |= {"most": 3, "every": 3, "clip": "aa" * 32, "seed": 8, "strength": 0.7, "prompt": "x", "style": "other"}
    changes |= {"style_picture": {**STYLE_PICTURE, "picture": "aa" * 32}}
    walk = spec_of_kind(name)
    used = {field: value for field, value in changes.items() if {**COMMON, **CONTENTS[name]}.get(field) is not None}
    for field, value in used.items():
        other = spec_of_kind(name, **{field: value})
        assert other.id != walk.id, field
        assert other.recipes()[0].id != walk.recipes()[0].id, field
    slower = spec_of_kind(name, frame_ms=50)
    assert slower.id != walk.id
    assert slower.recipes() == walk.recipes()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("into", {"frames": 1}),
        ("into", {"motion": "jump"}),
        ("into", {"prompt": "a giraffe"}),
        ("restyle in a style", {"style": None}),
        ("restyle in a style", {"style_picture": STYLE_PICTURE}),
        ("restyle in a style", {"steps": 4}),
        ("restyle by a prompt", {"seed": None}),
        ("clip in a style", {"clip": "../x"}),
        ("apart", {"kind": "sideways"}),
        ("apart", {"kind": ["apart"]}),
        ("apart", {"kind": "between"}),
    ],
)
def test_a_damaged_spec_is_refused(name, changes):
    with pytest.raises(ValueError, match=r".") as refusal:
        spec_of_kind(name, **changes)
    assert OF_PROMPT["prompt"] not in str(refusal.value), "errors are logged"


@pytest.mark.parametrize("name", CONTENTS)
def test_a_walk_of_one_leg_is_planned_at_once_and_evenly(name):
    walk = spec_of_kind(name)
    layout = first_layout(walk)
    frames = layout.frames(walk)
    assert layout.settled
    assert [frame.fraction for frame in frames] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert {frame.recipe for frame in frames} == {*walk.recipes()} == {*recipes_of(walk)}
    assert (most_pictures(walk), round_of(walk, layout)) == (5, (1, 1))


@pytest.mark.parametrize("name", CONTENTS)
def test_a_walk_says_what_it_is_and_what_it_is_made_of(name):
    """For lists, mails and pages; and for what keeps uploads."""
    walk = spec_of_kind(name)
    of_clip = name.startswith("clip")
    assert (walk.has_uploads, walk.clips) == (True, ("ef" * 32,) if of_clip else ())
    assert len(walk.pictures) == (not of_clip) + ("like a picture" in name)
    [recipe] = walk.recipes()
    assert (recipe.pictures, recipe.clips, recipe.features) == (walk.pictures, walk.clips, {walk.kind})
    assert walk.has_noise is ("prompt" in name)
    titles = {"into": "Into a picture", "apart": "A picture taken apart"}
    style = "In the style of a picture" if "like" in name else "tained glass"
    assert titles.get(name, style) in walk.title
