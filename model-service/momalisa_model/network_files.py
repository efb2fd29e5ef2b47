"""The files of a model in transformers' format: one network, its configuration and that of its pictures. Loads none."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from momalisa_model.fetched import read_fetched
from momalisa_model.hub import Report, fetch
from momalisa_model.model_files import digest_of, folder_name
from momalisa_model.problems import UnsuitableModel

NETWORK_WEIGHTS = "model.safetensors"
NETWORK_FILES = ("config.json", NETWORK_WEIGHTS)
# How pictures become its input; a model may do without.
PROCESSOR_FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class NetworkFiles:
    """A folder in transformers' format. model, revision: as in the card, unless a recipe names the model."""

    folder: Path
    model: str
    revision: str


def find_network(model_id: str, wanted: str | None, report: Report) -> NetworkFiles:
    """The files of a hub id or a folder. Downloads what the hub's cache lacks; never a pickle or code.

    wanted: a branch, tag or commit of the hub, or a folder's SHA-256; None accepts any. The revision of a folder is the
    SHA-256 of its files, and that of a hub model is the commit. Raises UnsuitableModel and DownloadFailed. Messages
    contain no path, because they are sent over HTTP.
    """
    folder = Path(model_id)
    if os.path.isdir(model_id):  # noqa: PTH112 - also False for what is no path
        files = _in_network_folder(folder, wanted)
    elif folder.is_absolute() or model_id.count("/") != 1:
        raise UnsuitableModel("The model's folder does not exist. Name a folder in transformers' format or a hub id.")
    else:
        folder = fetch(model_id, wanted, [*NETWORK_FILES, PROCESSOR_FILE], report)
        files = NetworkFiles(folder, model_id, folder.name)
    for name in NETWORK_FILES:
        if not (files.folder / name).is_file():
            raise UnsuitableModel(f"{files.model} has no {name}. Use a model in transformers' format in safetensors.")
    return files


def _in_network_folder(folder: Path, wanted: str | None) -> NetworkFiles:
    fetched = read_fetched(folder)
    names = (*NETWORK_FILES, PROCESSOR_FILE)
    revision = fetched.revision if fetched else digest_of((name, folder / name) for name in names)
    if wanted not in (None, revision):
        raise UnsuitableModel(f"{folder_name(folder)} has the SHA-256 {revision}, not {wanted}. Change one of the two.")
    return NetworkFiles(folder, folder_name(folder), revision)
