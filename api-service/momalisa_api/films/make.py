"""Everything that is made of a finished walk's frames: its films, and how smoothly it moves."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from momalisa_api.films import films
from momalisa_api.films.kinds import FilmName
from momalisa_api.walks.smoothness import Smoothness, measure
from momalisa_api.walks.walk import Walk


@dataclass(frozen=True, slots=True)
class Made:
    """What was made of a walk. too_large: the films that it has not, because they would have been too large."""

    films: frozenset[FilmName]
    too_large: tuple[FilmName, ...]
    smoothness: Smoothness


def make_films(frames: films.Frames, walk: Walk, folder: Path, store: Callable[[Path], None]) -> Made:
    """Make all films of a walk that this installation can make, one after the other. Blocks for seconds.

    frames: the walk's frames in order, each a function that returns its PNG. store: called with each film, which is
    deleted from the folder before the next one is made. The smoothness is in every film's metadata, with the walk's
    spec and its version, seed, fractions, and the fingerprints of its frames (null: unknown). Raises ValueError for
    unreadable frames, and what the functions raise.
    """
    spec = walk.spec
    fractions = [point.fraction for point in walk.layout.points]
    fingerprints = [fingerprint or None for fingerprint in walk.fingerprints]
    smoothness = measure(frames)
    stored, version = spec.to_stored()
    facts = {"version": version, "seed": walk.seed, "fractions": fractions, "fingerprints": fingerprints}
    metadata = json.dumps({**stored, **facts, "smoothness": smoothness.model_dump(mode="json")})
    gif = films.FilmOptions(spec.frame_ms, spec.gif_there_and_back)
    mp4 = films.FilmOptions(spec.frame_ms, spec.mp4_there_and_back)
    makers: dict[FilmName, Callable[[Path], None]] = {
        FilmName.GIF: lambda target: films.make_gif(frames, target, gif, metadata),
        FilmName.POSTER: lambda target: films.make_poster(frames, target, metadata),
        FilmName.SHARED_POSTER: lambda target: films.make_shared_poster(frames, target, metadata),
    }
    if films.can_make_video():
        preview = films.FilmOptions(spec.frame_ms)
        makers[FilmName.MP4] = lambda target: films.make_mp4(frames, target, mp4, metadata)
        makers[FilmName.PREVIEW] = lambda target: films.make_preview(frames, target, metadata, preview)
    too_large = []
    for name, make in makers.items():
        target = folder / name
        try:
            make(target)
            store(target)
        except films.FilmTooLarge:
            too_large.append(name)
        finally:
            target.unlink(missing_ok=True)
    return Made(frozenset(makers) - frozenset(too_large), tuple(too_large), smoothness)
