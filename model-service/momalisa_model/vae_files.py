"""The files of a VAE that replaces the model's own: finds, downloads and names them. Loads none."""

from __future__ import annotations

import glob
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from momalisa_model.fetched import origin_of
from momalisa_model.hub import Report, fetch
from momalisa_model.model_files import ModelFiles, OtherVae, digest_of, folder_name, names_on_hub, weights_of
from momalisa_model.problems import UnsuitableModel
from momalisa_model.sources import Source, parse_source
from momalisa_model.wire import Origin

VAE_SETTING = "MODEL_VAE"
CONFIG_FILE = "config.json"


def find_vae(setting: str | None, report: Report) -> OtherVae | None:
    """The VAE in MODEL_VAE, of which only the configuration is downloaded. Raises UnsuitableModel."""
    if setting is None:
        return None
    source = parse_source(setting)
    vae = _in_folder(Path(source.place)) if os.path.isdir(source.place) else _on_hub(source, report)  # noqa: PTH112
    return replace(vae, config=_config_of(vae))


def _in_folder(folder: Path) -> OtherVae:
    names = tuple(path.name for path in folder.iterdir())
    if fetched := origin_of(folder):
        return OtherVae(folder, Origin(model=fetched[0], revision=fetched[1]), names)
    read = [name for name in names if name == CONFIG_FILE or name.endswith(".safetensors")]
    revision = digest_of((name, folder / name) for name in read)
    return OtherVae(folder, Origin(model=folder_name(folder), revision=revision), names)


def _on_hub(source: Source, report: Report) -> OtherVae:
    if source.on_hub is None:
        raise UnsuitableModel("The folder in MODEL_VAE does not exist. Set a folder in diffusers format or a hub id.")
    repository, inner = source.on_hub
    start = f"{inner.strip('/')}/" if inner else ""
    cache = fetch(repository, source.revision, [glob.escape(start + CONFIG_FILE)], report, VAE_SETTING)
    names = tuple(name.removeprefix(start) for name in names_on_hub(cache, repository) if name.startswith(start))
    origin = Origin(model=source.place.rstrip("/"), revision=cache.name)
    return OtherVae(cache / start, origin, names, repository, start)


def with_vae(files: ModelFiles, vae: OtherVae, dtype: torch.dtype, report: Report) -> ModelFiles:
    """The files of a model that find_files found for this VAE, and its weights, which are downloaded now."""
    parts, names = {"vae": files.parts["vae"]}, [f"vae/{name}" for name in vae.names if name.endswith(".safetensors")]
    variant, chosen = weights_of(parts, names, vae.origin.model, dtype)["vae"]
    if vae.repository:
        names = [vae.start + name.removeprefix("vae/") for name in chosen]
        shards = f"{glob.escape(vae.start)}*.index*.json"
        fetch(vae.repository, vae.origin.revision, [*names, shards], report, VAE_SETTING)
    return replace(files, vae=vae, variants={**files.variants, "vae": variant})


def _config_of(vae: OtherVae) -> dict[str, Any]:
    try:
        return dict(json.loads((vae.folder / CONFIG_FILE).read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UnsuitableModel(
            f"{vae.origin.model} in MODEL_VAE has no readable {CONFIG_FILE}. Name the folder of a VAE in diffusers "
            "format; in the folder of a whole model, it is the subfolder vae."
        ) from error
