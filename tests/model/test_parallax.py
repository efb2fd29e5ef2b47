"""Walks into a picture: its depth, its layers, the camera, and the engine in a real replica."""

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from atelier.scenes import paint_scene
from momalisa_model.engines.parallax_depth import load_depth_network, normalised
from momalisa_model.engines.parallax_edges import aligned, matte, sharpened
from momalisa_model.engines.parallax_fill import continued, diffused
from momalisa_model.engines.parallax_layers import levels
from momalisa_model.engines.parallax_motion import MOTIONS, REACH, View, view_at
from momalisa_model.engines.parallax_scene import Scene, build_scene
from momalisa_model.engines.parallax_warp import origins, seen
from momalisa_model.problems import NotANumber, UnsuitableModel
from momalisa_model.settings import Settings
from tests.support.depth_networks import save_depth_anything, save_dpt, save_dpt_of_dinov2, save_glpn
from tests.support.model_server import Server
from tests.support.recipes import write_recipe

SIZE = 128
FRACTIONS = (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9)
RED, BLUE = (200, 40, 40), (40, 60, 200)


def ball(amplitude: float = 1.0) -> Scene:
    """A red ball of 40 pixels in front of a blue wall, from a coarse and soft map of depth, as networks make them."""
    y, x = np.mgrid[:SIZE, :SIZE]
    inside = np.hypot(x - SIZE / 2, y - SIZE / 2) < 20
    picture = np.where(inside[..., None], RED, BLUE).astype(np.uint8)
    depth = cv2.resize(inside.astype(np.float32), (SIZE // 4, SIZE // 4), interpolation=cv2.INTER_AREA)
    return build_scene(picture, cv2.GaussianBlur(depth, (0, 0), 0.6), amplitude)


def reds(picture: np.ndarray) -> np.ndarray:
    """Which pixels are nearer to red than to blue, and none of the wall's."""
    return picture[..., 0].astype(int) > picture[..., 2]


@pytest.mark.parametrize("motion", MOTIONS)
def test_every_motion_ends_where_it_began_and_never_jerks(motion: str):
    """A film that is played again and again must not show where it begins."""
    assert view_at(motion, 0.7, 1.0) == view_at(motion, 0.7, 0.0)
    places = np.array([list(vars(view_at(motion, 1.0, i / 48)).values()) for i in range(50)])
    steps = np.diff(places, axis=0)
    assert np.abs(np.diff(steps, axis=0)).max() < 0.15 * np.abs(steps).max()


def test_near_things_move_as_far_as_the_motion_says():
    """Otherwise amplitude would mean something else in each picture."""
    scene = ball()
    centres = []
    for fraction in (0.25, 0.75):
        found = reds(seen(scene.layers, view_at("sway", 1.0, fraction)))
        centres.append(np.nonzero(found)[1].mean())
    moved = centres[0] - centres[1]
    # The ball is the nearest thing, and stands before the pivot by 1 - PIVOT of the way.
    assert moved == pytest.approx(2 * REACH * SIZE * 0.6, abs=1)


@pytest.mark.parametrize("motion", MOTIONS)
def test_what_the_camera_uncovers_looks_like_what_is_beside_it(motion: str):
    """A trace of the ball on the wall is the halo that everybody sees; its edge itself is soft for a pixel or two."""
    scene = ball()
    for fraction in FRACTIONS:
        picture = seen(scene.layers, view_at(motion, 1.0, fraction))
        around = cv2.dilate(reds(picture).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        assert np.abs(picture[~around].astype(int) - BLUE).max() <= 6
        inside = cv2.erode(reds(picture).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        assert np.abs(picture[inside].astype(int) - RED).max() <= 6
        assert inside.sum() > 500


@pytest.mark.parametrize("number", range(3))
def test_painted_scenes_have_no_holes_from_any_place_of_the_camera(number: int):
    """No pixel is of nothing: each comes from a place within the picture, and something opaque is behind it."""
    painted = paint_scene(np.random.default_rng(number), SIZE)
    scene = build_scene(painted.picture, painted.nearness, 1.0)
    farthest = scene.layers[0]
    assert farthest.pixels[..., 3].min() == 255
    for motion in MOTIONS:
        for fraction in FRACTIONS:
            for layer in scene.layers:
                x, y = origins(layer.nearness, view_at(motion, 1.0, fraction), SIZE, SIZE)
                outside = (x < -0.5) | (y < -0.5) | (x > SIZE - 0.5) | (y > SIZE - 0.5)
                assert outside.sum() == 0


def test_the_picture_itself_is_seen_from_where_it_was_taken():
    """A walk that begins with another picture than the visitor's looks broken."""
    painted = paint_scene(np.random.default_rng(1), SIZE)
    scene = build_scene(painted.picture, painted.nearness, 1.0)
    off = np.abs(seen(scene.layers, View()).astype(int) - painted.picture)
    assert off.mean() < 2
    assert np.percentile(off, 99) < 32


def test_a_plain_map_is_one_layer_and_a_ball_is_another():
    """A floor that is cut shows a line; a ball that is not cut drags the wall along."""
    slope = np.broadcast_to(np.linspace(0, 1, SIZE, dtype=np.float32)[:, None], (SIZE, SIZE)).copy()
    assert levels(slope, 2) == []
    assert len(ball().layers) == 2


def test_only_edges_that_the_picture_has_stay_in_the_map():
    """A small network sees an edge across a forehead; cut there, the face would come apart."""
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    picture[:, SIZE // 2 :] = 200
    across, along = np.zeros((2, SIZE, SIZE), np.float32)
    across[SIZE // 2 :] = along[:, SIZE // 2 :] = 1
    middle = slice(SIZE // 2 - 1, SIZE // 2 + 1)
    assert np.diff(aligned(across, picture)[middle], axis=0).max() < 0.1
    assert np.diff(aligned(along, picture)[:, middle], axis=1).min() > 0.9


def test_edges_of_a_soft_map_become_steps_at_the_edges_of_the_picture():
    """Values between near and far are things that are not there: they would move on their own."""
    row = np.clip((np.arange(SIZE) - 60) / 8, 0, 1).astype(np.float32)
    soft = np.broadcast_to(row, (SIZE, SIZE)).copy()
    steps = sharpened(soft, 5)
    assert set(np.unique(steps)) == {0, 1}
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    picture[:, 66:] = 200
    found = matte(picture, steps, 0.5, 5)
    assert found[:, 66:].min() > 0.9
    assert found[:, :64].max() < 0.1


def test_a_picture_goes_on_behind_what_hides_it():
    """Stripes end at an edge if only their mean goes on."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::4] = stripes[1::4] = 200
    known = np.ones((64, 64), bool)
    known[:, 24:40] = False
    hidden = np.where(known[..., None], stripes, 90)
    assert np.abs(continued(hidden.astype(np.uint8), known).astype(int) - stripes)[:, 24:40].mean() < 30
    assert np.array_equal(diffused(stripes.astype(np.float32), np.ones((64, 64), bool)), stripes)


def test_answers_in_metres_and_inverse_ones_are_both_nearness(tmp_path):
    """Of some networks, the largest number is the farthest point; a walk with the wrong one is inside out."""
    picture = np.random.default_rng(0).integers(0, 255, (48, 32, 3)).astype(np.uint8)
    for save, sign in ((save_depth_anything, 1), (save_dpt, 1), (save_glpn, -1), (save_dpt_of_dinov2, -1)):
        network = load_depth_network(save(tmp_path / save.__name__), torch.device("cpu"))
        pixels = network.processor(images=Image.fromarray(picture), return_tensors="pt")["pixel_values"]
        raw = network.network(pixel_values=pixels).predicted_depth[0].detach().numpy()
        found = network.nearness(picture)
        assert found.shape == raw.shape
        assert (found.min(), found.max()) == (0, 1)
        order = np.argsort(raw.ravel())[:: len(raw.ravel()) // 20]
        assert (np.diff(sign * found.ravel()[order]) >= 0).all()


def test_a_flat_map_has_no_depth_and_one_without_numbers_is_refused(tmp_path):
    """A grey picture must not become noise, and a broken network no black film."""
    assert (normalised(np.full((8, 8), 3.0, np.float32)) == 0.5).all()
    network = load_depth_network(save_depth_anything(tmp_path), torch.device("cpu"))
    torch.nn.init.constant_(network.network.head.conv3.bias, float("nan"))
    with pytest.raises(NotANumber, match="another model"):
        network.nearness(np.zeros((28, 28, 3), np.uint8))


def test_the_folder_says_how_its_network_wants_pictures(tmp_path):
    """A network that gets other sizes and colours than it was trained on answers nonsense, without any error."""
    folder = save_depth_anything(tmp_path)
    settings = {"image_processor_type": "DPTImageProcessor", "size": {"height": 84, "width": 84}}
    settings |= {"ensure_multiple_of": 7, "keep_aspect_ratio": True, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    network = load_depth_network(folder, torch.device("cpu"))
    assert network.nearness(np.zeros((100, 200, 3), np.uint8)).shape == (84, 168)
    assert network.nearness(np.zeros((8, 200, 3), np.uint8)).size, "a picture may be very long"
    (folder / "preprocessor_config.json").write_text("{")
    with pytest.raises(UnsuitableModel, match=r"preprocessor_config\.json"):
        load_depth_network(folder, torch.device("cpu"))


def png_of(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A replica with a random network for depth."""
    folder = tmp_path_factory.mktemp("parallax")
    model = save_depth_anything(folder / "depth")
    card = {"width": 64, "height": 64}
    file = write_recipe(folder, "depths", model, engine="parallax", card=card)
    with Server(Settings(recipes=str(file), device="cpu", threads=1, port=0)) as running:
        yield running


def lines_of(server: Server, picture: np.ndarray, fractions: list[float], **changes: Any) -> list[dict[str, Any]]:
    file = png_of(picture)
    key = hashlib.sha256(file).hexdigest()
    card = server.get("/v1/models").json()["models"][0]["card"]
    recipe = {"kind": "into", "picture": key, "motion": "circle", "amplitude": 1.0, "model": "depths"}
    recipe |= {"width": picture.shape[1], "height": picture.shape[0], "revision": card["revision"]}
    body = {"recipe": recipe, "fractions": fractions, "pictures": {key: base64.b64encode(file).decode()}} | changes
    answer = httpx.post(server.url + "/v1/render", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def pixels(file: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(file))))


def test_a_replica_walks_into_a_picture_and_back_to_its_beginning(replica):
    """Its frames are the same bytes alone and together; the last frame is the first one."""
    picture = paint_scene(np.random.default_rng(1), 96).picture[:72]
    _, *frames = lines_of(replica, picture, [0.0, 0.25, 1.0])
    assert [pixels(frame["png"]).shape for frame in frames] == [(72, 96, 3)] * 3
    assert frames[0]["png"] == frames[2]["png"] != frames[1]["png"]
    _, alone = lines_of(replica, picture, [0.25])
    assert alone["png"] == frames[1]["png"]


def test_the_depth_map_and_the_foreground_come_with_the_frames(replica):
    """Visitors can download both."""
    picture = paint_scene(np.random.default_rng(1), 96).picture
    _, depth, cutout, _ = lines_of(replica, picture, [0.5], extras=True)
    assert (depth["extra"], cutout["extra"]) == ("depth.png", "cutout.png")
    assert pixels(depth["data"]).dtype.itemsize > 1
    assert pixels(depth["data"]).shape == (96, 96)
    found = pixels(cutout["data"])
    assert found.shape == (96, 96, 4)
    assert np.array_equal(found[..., :3], picture)


def test_a_folder_without_a_network_for_depth_is_refused(tmp_path: Path):
    """Operators mistake models; the message says which file is missing."""
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UnsuitableModel, match="could not be loaded"):
        load_depth_network(tmp_path, torch.device("cpu"))
