"""The pictures in a request: their files are checked before anything is decoded, and each error says what to do."""

from __future__ import annotations

import base64
import hashlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from momalisa_model.body_limit import BodyLimit
from momalisa_model.pictures import base64_bytes, max_file_bytes, read_pictures
from momalisa_model.predict import PredictInstance, PredictRequest, requests_of
from momalisa_model.problems import Invalid
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.request_check import check
from momalisa_model.wire import PICTURES, ModelAnswer, ModelCard, RenderRequest

WIDTH, HEIGHT = 24, 16
CARD: dict[str, Any] = {"model": "m", "revision": "r", "micro_batch": 2, "width": WIDTH, "height": HEIGHT}
CARD |= {"size_multiple": 8, "min_size": 8, "max_size": 64, "num_inference_steps": 2, "max_steps": 9}
CARD |= {"guidance_scale": 4.0, "negative_prompt": "", "scheduler": "DDIM", "schedulers": ["DDIM"], "token_limit": 9}


def pixels(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def file_of(array: np.ndarray, kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).convert(mode).save(file, kind, **options)
    return file.getvalue()


def sha256(file: bytes) -> str:
    return hashlib.sha256(file).hexdigest()


def recipe(**changes: Any) -> BetweenRecipe:
    plain: dict[str, Any] = {"start": "a", "end": "b", "negative_prompt": "", "seed": 1, "width": WIDTH}
    plain |= {"height": HEIGHT, "num_inference_steps": 2, "guidance_scale": 4.0, "scheduler": "DDIM"}
    return BetweenRecipe(**plain, model="m", revision="r").model_copy(update=changes)


def request(*files: bytes, text: str = "", **changes: Any) -> RenderRequest:
    """A request whose stops are these pictures. text: in place of the file of the first one."""
    keys = [sha256(file) for file in files]
    named = {"start_picture": keys[0], "end_picture": keys[-1], "strength": 0.8} | changes
    sent = {key: base64.b64encode(file).decode() for key, file in zip(keys, files, strict=True)}
    sent |= {keys[0]: text} if text else {}
    return RenderRequest(recipe=recipe(**named), fractions=[0.5], pictures=sent)


def answer(*features: str) -> ModelAnswer:
    return ModelAnswer(card=ModelCard(**CARD), fingerprint="f", made_of={}, features=features)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 95})])
def test_the_pixels_of_a_file_are_the_picture(kind, options):
    """Lossless where the file is."""
    array = np.full((HEIGHT, WIDTH, 3), 90, np.uint8) if kind == "JPEG" else pixels()
    file = file_of(array, kind, **options)
    assert np.array_equal(read_pictures(request(file))[sha256(file)], array)


def png_that_claims(width: int, height: int) -> bytes:
    """A small PNG whose head promises this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99)))


@pytest.mark.parametrize(
    ("file", "allowed"),
    [
        (file_of(pixels(width=32)), "must have 24 x 16 pixels"),
        (png_that_claims(30_000, 30_000), "must have 24 x 16 pixels"),
        (png_that_claims(8000, 8000), "must have 24 x 16 pixels"),
        (file_of(pixels())[:200], "must be a whole PNG, WebP or JPEG"),
        (file_of(pixels(), "GIF"), "must be a whole PNG, WebP or JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "must be a whole PNG, WebP or JPEG"),
        (file_of(pixels(), mode="RGBA"), "must be in RGB, not RGBA"),
        (file_of(pixels(), "JPEG", mode="CMYK"), "must be in RGB, not CMYK"),
        (file_of(pixels()) + bytes(100_000), "must have at most 66704 bytes"),
    ],
)
def test_a_file_that_cannot_be_a_stop_is_refused(file, allowed):
    """With the picture's name, and with what would be accepted."""
    with pytest.raises(Invalid, match=f"pictures.{sha256(file)} {allowed}"):
        read_pictures(request(file))


def test_other_bytes_than_the_named_ones_are_refused():
    """The SHA-256 is part of the frame's key: another picture under it would be stored for ever."""
    other = base64.b64encode(file_of(pixels(1))).decode()
    with pytest.raises(Invalid, match="must be the file with this SHA-256"):
        read_pictures(request(file_of(pixels()), text=other))
    with pytest.raises(Invalid, match="must be in base64"):
        read_pictures(request(file_of(pixels()), text="no*base64"))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize(("width", "height"), [(8, 8), (256, 256), (1024, 512)])
def test_every_picture_of_a_frames_size_is_small_enough(kind, width, height):
    """Noise cannot be compressed."""
    file = file_of(pixels(0, width, height), kind, **{"lossless": True} if kind == "WEBP" else {"quality": 100})
    assert len(file) <= max_file_bytes(width, height)
    assert len(base64.b64encode(file)) <= base64_bytes(max_file_bytes(width, height))


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({"strength": None}, "recipe.strength must be from 0.1 to 1"),
        ({"end_picture": "0" * 64}, f"pictures.{'0' * 64} is required"),
        ({"start_picture": None, "end_picture": None, "strength": None}, "must be left out"),
        ({"end_picture": None, "end": ""}, "recipe.end must have at least 1 character without end_picture"),
    ],
)
def test_stops_and_pictures_must_belong_together(changes, allowed):
    """A recipe is complete, and a request has exactly what it names."""
    with pytest.raises(Invalid, match=allowed):
        check(request(file_of(pixels()), **changes), answer(PICTURES), 9)


def test_a_picture_needs_no_prompt_but_the_feature():
    """Older replicas do not have it, nor models whose frames would depend on their places."""
    asked = request(file_of(pixels()), start="", end="")
    check(asked, answer(PICTURES), 9)
    with pytest.raises(Invalid, match=r"recipe\.start_picture must be null on this replica"):
        check(asked, answer(), 9)


def test_a_third_picture_is_refused():
    """A leg has two ends."""
    files = [file_of(pixels(seed)) for seed in range(3)]
    with pytest.raises(Invalid, match=f"pictures.{sha256(files[1])} must be left out"):
        check(request(*files), answer(PICTURES), 9)


def test_the_instances_of_a_platform_share_their_pictures():
    """1.5 MB have room for each picture once."""
    one, other = file_of(pixels()), file_of(pixels(1))
    asked = request(one, other)
    frames = [PredictInstance(recipe=asked.recipe, fraction=fraction) for fraction in (0.0, 0.5)]
    first = frames[0].model_copy(update={"pictures": asked.pictures})
    (whole,) = requests_of(PredictRequest(instances=[first, frames[1]]).instances)
    assert whole == asked.model_copy(update={"fractions": [0.0, 0.5]})
    with pytest.raises(Invalid, match="no recipe names it"):
        requests_of([PredictInstance(recipe=recipe(), fraction=0.5, pictures=asked.pictures)])


@pytest.mark.anyio
async def test_the_limit_of_a_body_follows_the_models_that_are_loaded():
    """Nothing is known about pictures before the model is."""
    limits, sent, answered = iter([10, 20]), [b"x" * 15], []

    async def app(_: object, receive: Any, send: Any) -> None:
        answered.append(len((await receive())["body"]))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": sent[0], "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        answered.append(message.get("status"))

    limited = BodyLimit(app, lambda: next(limits))
    for _ in range(2):
        await limited({"type": "http", "headers": []}, receive, send)
    assert answered == [413, None, 15]
