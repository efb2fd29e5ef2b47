"""Notices that files on disk change while a model is loaded from them. Reads none of them."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from momalisa_model.model_files import INDEX, SMALL_FILES
from momalisa_model.problems import FilesChanged, UnsuitableModel
from momalisa_model.settings import ModelSource
from momalisa_model.sources import parse_sources

READ = tuple(f".{ending}" for ending in ("safetensors", *SMALL_FILES))


@contextmanager
def unchanged(source: ModelSource) -> Iterator[None]:
    """Raises FilesChanged at the end of a block that loads from the files of a source, if they are others by then.

    The revision is the SHA-256 of what was read first: weights that were written later would have a false one. A file
    that is still being copied also makes loading fail, which then is no reason to give up.
    """
    before = _stamps(source)
    try:
        yield
    except (UnsuitableModel, OSError) as error:
        if _stamps(source) != before:
            raise _changed(source) from error
        raise
    if _stamps(source) != before:
        raise _changed(source)


def _changed(source: ModelSource) -> FilesChanged:
    name = source.name.rstrip("/").rpartition("/")[2]  # no path: the message is sent over HTTP
    return FilesChanged(f"The files of {name} changed while they were loaded. They may still be copied.")


def _stamps(source: ModelSource) -> dict[Path, tuple[int, int]]:
    """Size in bytes and time of change, in nanoseconds, of each file of the model and its additions that is on disk."""
    added = parse_sources(",".join(filter(None, (source.model_vae, source.model_adapters, source.fill_model))))
    places = [source.model_id, source.model_configuration, *(one.place for one in added)]
    stamps = {}
    for path in (path for place in places if place for path in _files_at(Path(place))):
        try:
            found = path.stat()
        except (OSError, ValueError):  # no path, or it was removed after it was listed
            continue
        if stat.S_ISREG(found.st_mode):
            stamps[path] = (found.st_size, found.st_mtime_ns)
    return stamps


def _files_at(place: Path) -> Iterator[Path]:
    """The path of a file itself, or what is read of a folder: also in its subfolders if it is that of a model."""
    yield place
    try:
        if place.is_dir():
            inner = place.glob("**/*" if (place / INDEX).exists() else "*")
            yield from (path for path in inner if path.suffix in READ)
    except OSError:  # no path, or a folder that cannot be read: loading tells more
        return
