"""Everything that is made of a finished walk's frames: its films, and how smoothly it moves."""

import json
from pathlib import Path

from momalisa_api.films import films
from momalisa_api.films.kinds import FilmName
from momalisa_api.walks.smoothness import Smoothness, measure
from momalisa_api.walks.spec import SPEC_VERSION
from momalisa_api.walks.walk import Walk


def make_films(frames: films.Frames, walk: Walk, folder: Path) -> tuple[list[Path], Smoothness]:
    """Write all films of a walk that this installation can make into a folder. Blocks for seconds.

    frames: the walk's frames in order, each a function that returns its PNG. Returns the files and the smoothness;
    both are in every film's metadata, with the walk's spec and its version, seed and fractions. Raises ValueError for unreadable
    frames, and what a frame's function raises.
    """
    spec = walk.spec
    fractions = [point.fraction for point in walk.layout.points]
    smoothness = measure(frames, fractions)
    facts = {"version": SPEC_VERSION, "seed": walk.seed, "fractions": fractions, "smoothness": smoothness.model_dump(mode="json")}
    metadata = json.dumps({**spec.model_dump(mode="json"), **facts})
    gif = films.FilmOptions(spec.frame_ms, spec.gif_there_and_back)
    mp4 = films.FilmOptions(spec.frame_ms, spec.mp4_there_and_back)
    files = {name: folder / name for name in FilmName}
    films.make_gif(frames, files[FilmName.GIF], gif, metadata)
    films.make_poster(frames, files[FilmName.POSTER], metadata)
    films.make_shared_poster(frames, files[FilmName.SHARED_POSTER], metadata)
    if films.can_make_video():
        films.make_mp4(frames, files[FilmName.MP4], mp4, metadata)
        films.make_preview(frames, files[FilmName.PREVIEW], metadata, films.FilmOptions(spec.frame_ms))
    return [path for path in files.values() if path.exists()], smoothness
