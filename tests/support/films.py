"""Makes one film of pictures, as films/make.py does with all of them at once."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from momalisa_api.films.films import FilmOptions
from momalisa_api.films.mp4 import FULL, PREVIEW, Encoding, Video
from momalisa_api.films.outputs import Gif, Output, Save, Still
from momalisa_api.films.provenance import DigitalSource
from momalisa_api.walks.smoothness import Meter, Smoothness

Pictures = Sequence[Image.Image]


def png(picture: Image.Image) -> bytes:
    """A picture as it is in the bucket."""
    data = io.BytesIO()
    picture.convert("RGB").save(data, "PNG")
    return data.getvalue()


def make(output: Output, pictures: Pictures, comment: str) -> None:
    """Give an output what it needs, until its file is complete."""
    try:
        for picture in pictures:
            output.add(picture)
        for number in output.again():
            output.add(pictures[number])
        output.finish(comment, lambda: None)
    finally:
        output.close()


def make_gif(
    pictures: Pictures,
    target: Path,
    comment: str = "{}",
    *,
    frame_ms: int = 80,
    there_and_back: bool = True,
    source: DigitalSource = DigitalSource.TRAINED,
) -> None:
    """Write the GIF of a walk."""
    make(Gif(target, _options(pictures, comment, frame_ms, there_and_back, source)), pictures, comment)


def make_mp4(
    pictures: Pictures,
    target: Path,
    comment: str = "{}",
    *,
    frame_ms: int = 80,
    there_and_back: bool = False,
    encoding: Encoding = FULL,
    source: DigitalSource = DigitalSource.TRAINED,
) -> None:
    """Write the MP4 of a walk."""
    make(Video(target, encoding, _options(pictures, comment, frame_ms, there_and_back, source)), pictures, comment)


def make_preview(pictures: Pictures, target: Path, comment: str = "{}") -> None:
    """Write the preview of a walk."""
    make_mp4(pictures, target, comment, there_and_back=True, encoding=PREVIEW)


def make_still(
    pictures: Pictures,
    target: Path,
    save: Save,
    comment: str = "{}",
    source: DigitalSource = DigitalSource.TRAINED,
) -> None:
    """Write a poster of a walk."""
    make(Still(target, _options(pictures, comment, source=source), save), pictures, comment)


def measured(pictures: Pictures) -> Smoothness:
    """How a walk moves."""
    meter = Meter(len(pictures))
    for picture in pictures:
        meter.add(picture)
    return meter.finish()


def _options(
    pictures: Pictures,
    comment: str,
    frame_ms: int = 80,
    there_and_back: bool = False,
    source: DigitalSource = DigitalSource.TRAINED,
) -> FilmOptions:
    return FilmOptions(len(pictures), frame_ms, there_and_back, len(comment.encode()), source)
