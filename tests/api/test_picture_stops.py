"""Pictures as stops, in specs and recipes: what they mean, and that they change nothing of walks without them."""

import base64
import hashlib
import io
import json

import pytest
from PIL import Image

from momalisa_api.fleet.picture_files import fitted
from momalisa_api.fleet.wire import ModelAnswer, render_request
from momalisa_api.walks.between import BetweenSpec
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.rounds import first_layout
from momalisa_api.walks.spec import is_private, spec_from_stored
from momalisa_api.walks.stops import Crop
from tests.support.factories import CARD, spec
from tests.support.pictures import encoded

SCOPE = "5" * 32
STOP = {"picture": "ab" * 32, "prompt": "a giraffe", "crop": {"x": 1, "y": 2, "width": 30, "height": 30}}


def walk_through_a_picture(**changes: object) -> BetweenSpec:
    """From a prompt to a picture and on to a prompt."""
    return spec(stops=("a star", STOP, "a wave"), **{"strength": 0.8, "scope": SCOPE, **changes})


def test_walks_and_recipes_of_prompts_keep_their_ids():
    """Links, films and stored frames of earlier releases stay what they are."""
    walk = spec()
    assert walk.id == "32198924c8557c5d912d534e164b0894"
    assert [recipe.id for recipe in walk.recipes(0)] == ["fac78824b22493b3f8ae109cce94bc9b"]
    assert [recipe.id for recipe in walk.recipes(0, "early")] == ["2602bd18054518106917d5747c46079a"]


def test_a_walk_with_pictures_is_read_back_as_it_was_stored():
    """Its crop, strength and scope decide its id and the folders of its frames."""
    walk = walk_through_a_picture()
    content, version = walk.to_stored()
    assert (version, content["scope"]) == (5, SCOPE)
    read = spec_from_stored(json.loads(json.dumps(content)), version)
    assert (read, read.id) == (walk, walk.id)


@pytest.mark.parametrize("changes", [{"strength": None}, {"stops": ("a star", "a wave")}], ids=str)
def test_a_stored_walk_whose_strength_and_pictures_disagree_is_refused(changes):
    """A strength says how far the walk leaves its pictures: neither exists without the other."""
    content, version = walk_through_a_picture().to_stored()
    with pytest.raises(ValueError, match="strength"):
        spec_from_stored({**content, **changes}, version)


def test_every_scope_has_walks_and_frames_of_its_own():
    """So nobody can find a private walk by its prompts, and no frame of it is shared with another owner."""
    public = spec()
    walks = [public, public.in_scope(SCOPE), public.in_scope("6" * 32)]
    assert len({walk.id for walk in walks}) == len({walk.recipes(0)[0].folder for walk in walks}) == 3
    assert walks[1].in_scope(None).id == public.id
    assert [is_private(walk) for walk in walks] == [False, True, True]


def test_the_scope_leaves_the_service_in_no_document():
    """Whoever learns it can compute the ids of all private walks of its owner."""
    walk = walk_through_a_picture()
    request = render_request(spec(scope=SCOPE).recipes(0)[0], [0.0])
    documents = [walk.model_dump_json(), walk.recipes(0)[0].model_dump_json(), json.dumps(request)]
    assert not [text for text in documents if SCOPE in text or "scope" in text]


def test_only_legs_with_a_picture_have_its_recipe():
    """Legs between prompts are what they always were, and share their frames within the scope."""
    walk = spec(stops=("a star", STOP, "a wave", "a tree"), strength=0.5)
    to_picture, from_picture, plain = walk.recipes(7, "early")
    assert (to_picture.start, to_picture.start_picture, to_picture.end_picture.picture) == ("a star", None, "ab" * 32)
    assert (from_picture.start, from_picture.end, from_picture.start_picture) == (
        "a giraffe",
        "a wave",
        to_picture.end_picture,
    )
    assert (to_picture.strength, to_picture.blend) == (0.5, "embeddings"), "the early blend is for prompts"
    assert plain == spec(stops=("a wave", "a tree")).recipes(7, "early")[0]


def test_a_picture_between_two_legs_is_one_frame():
    """It is fraction 0 of the leg that begins there, like a prompt."""
    walk = walk_through_a_picture(frames=5)
    frames = first_layout(walk).frames(walk)
    assert len({frame.key for frame in frames}) == 5
    assert [frame.fraction for frame in frames if frame.recipe.start_picture] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("asked", "frame", "cut"),
    [
        ((0, 0, 512, 512), (128, 128), (0, 0, 512, 512)),
        ((0, 0, 100, 50), (64, 64), (25, 0, 50, 50)),
        ((10, 20, 50, 101), (64, 64), (10, 45, 50, 50)),
        ((0, 0, 1, 900), (64, 256), (0, 448, 1, 4)),
        ((0, 0, 333, 200), (128, 96), (33, 0, 267, 200)),
    ],
)
def test_a_crop_is_cut_centrally_to_the_shape_of_a_frame(asked, frame, cut):
    """A crop of any shape is accepted; the frames show its middle, undistorted."""
    fields = ("x", "y", "width", "height")
    found = Crop(**dict(zip(fields, asked, strict=True))).cut_to(*frame)
    assert tuple(found.model_dump().values()) == cut


def test_a_request_has_the_files_of_its_pictures_and_nothing_else_of_them():
    """A replica gets cut and scaled files by their hashes; the id of what a visitor uploaded stays with the API."""
    recipe = walk_through_a_picture().recipes(0)[0]
    request = render_request(recipe, [0.5], {picture: b"a file" for picture in recipe.pictures})
    name = hashlib.sha256(b"a file").hexdigest()
    assert request["pictures"] == {name: base64.b64encode(b"a file").decode()}
    assert (request["recipe"]["end_picture"], request["recipe"]["strength"]) == (name, 0.8)
    assert STOP["picture"] not in json.dumps(request)
    assert not {"start_picture", "scope", "crop"} & request["recipe"].keys()
    assert "pictures" not in render_request(spec().recipes(0)[0], [0.5])


@pytest.mark.parametrize(("features", "able"), [((), False), (("early_blend",), False), (("pictures",), True)])
def test_only_replicas_with_the_feature_get_legs_with_pictures(features, able):
    """Replicas of the last release would refuse the recipe, and fail the walk."""
    answer = ModelAnswer(card=ModelCard.model_validate(CARD), fingerprint="a", features=features)
    with_picture, plain = spec(stops=("a star", STOP), strength=0.8).recipes(0)[0], spec().recipes(0)[0]
    assert (answer.can_render(with_picture), answer.can_render(plain)) == (able, True)


def test_a_picture_that_is_too_large_for_a_platform_gets_the_best_quality_that_fits():
    """Noise is the worst case. A file that fits stays as it is, without loss."""
    noise = Image.effect_noise((256, 256), 90).convert("RGB")
    png = encoded(noise, "PNG")
    assert fitted(png, len(png)) is png
    small = fitted(png, 30_000)
    assert len(small) <= 30_000
    with Image.open(io.BytesIO(small)) as picture:
        assert (picture.format, picture.size, picture.mode) == ("WEBP", (256, 256), "RGB")
    assert len(fitted(png, 20_000)) <= 20_000 < len(small)
