"""The films that can be made of a walk: the one table that encoders, routes, the client and the documents read."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class FilmName(StrEnum):
    """The file names of a walk's films, in the bucket and in URLs."""

    GIF = "walk.gif"
    POSTER = "poster.webp"
    SHARED_POSTER = "poster.jpg"
    MP4 = "walk.mp4"
    PREVIEW = "preview.mp4"


@dataclass(frozen=True, slots=True)
class FilmKind:
    """What a film is. download: whether a visitor can save the walk as this; needs_video: whether PyAV makes it."""

    name: FilmName
    media_type: str
    description: str
    download: bool = False
    needs_video: bool = False


FILM_KINDS: Final = {
    kind.name: kind
    for kind in (
        FilmKind(FilmName.GIF, "image/gif", "The walk as a GIF.", download=True),
        FilmKind(FilmName.POSTER, "image/webp", "The middle frame, at most 512 pixels a side."),
        FilmKind(FilmName.SHARED_POSTER, "image/jpeg", "The middle frame for link previews, at most 1200 pixels wide."),
        FilmKind(FilmName.MP4, "video/mp4", "The walk as an H.264 MP4.", download=True, needs_video=True),
        FilmKind(
            FilmName.PREVIEW, "video/mp4", "A small MP4 for galleries, at most 256 pixels a side.", needs_video=True
        ),
    )
}
