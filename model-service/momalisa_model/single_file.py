"""Models in one .safetensors file: which parts it has, and where the rest comes from. Loads no weights.

Such a file has the weights of a model under the names of the program that trained it. Its configurations and tokenizers
are those of a model in diffusers format, MODEL_CONFIG.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import structlog
import torch
from diffusers.loaders import FromSingleFileMixin
from diffusers.loaders.single_file_utils import LDM_VAE_KEYS, is_clip_model_in_single_file, is_t5_in_single_file
from safetensors import safe_open

from momalisa_model.families import FAMILIES, Family
from momalisa_model.hub import SHA256_DIGITS, Report, fetch, sha256_of
from momalisa_model.model_files import (
    INDEX,
    SMALL_FILES,
    VAE_CONFIG,
    ModelFiles,
    OtherVae,
    class_of,
    digest_of,
    has_safety_checker,
    index_with_vae,
    names_in,
    names_on_hub,
    of_model,
    parts_of,
    read_index,
    small_files,
    weights_of,
)
from momalisa_model.problems import UnsuitableModel

CONFIG_SETTING = "MODEL_CONFIG"
ENDING = ".safetensors"
PICKLED = (".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Configuration:
    """The model in diffusers format that a single file is completed from. names: all its files."""

    folder: Path
    name: str
    names: Collection[str]
    repository: str | None


def is_single_file(model_id: str) -> bool:
    """Whether a MODEL_ID is the path of a file, or owner/name/file.safetensors on the hub."""
    return model_id.endswith((ENDING, *PICKLED)) and not os.path.isdir(model_id)  # noqa: PTH112


def find_single_file(
    model_id: str,
    configuration: str | None,
    wanted: str | None,
    dtype_for: Callable[[Family], torch.dtype],
    report: Report,
    vae: OtherVae | None = None,
) -> ModelFiles:
    """The file, and what it lacks of its configuration. Downloads what the hub's cache lacks.

    configuration: a folder, or an id on the hub with or without @revision. wanted: a branch, tag or commit of the hub;
    for a path, the revision that it must have. vae: replaces that of both. The revision is the SHA-256 of the file's
    own and of the configuration's. Raises UnsuitableModel, without a path in its message.
    """
    name = Path(model_id).stem if os.path.isfile(model_id) else model_id  # noqa: PTH113
    if not model_id.endswith(ENDING):
        raise UnsuitableModel("A single file must be in safetensors, because others can contain programs.")
    if not configuration:
        raise UnsuitableModel(
            f"{name} is a single file without configurations. Set MODEL_CONFIG to a folder or a hub id in diffusers "
            "format, of a model of the same family."
        )
    config = _configuration(configuration, report, [INDEX, VAE_CONFIG] if vae else [INDEX])
    index = _without_absent_checker(read_index(config.folder, config.name), config)
    index = index_with_vae(index, vae, config.folder, config.name)
    _check_family(index["_class_name"], name)
    parts = parts_of(index, config.name)
    file = _file(model_id, wanted, report)
    needed = of_model(parts, vae)
    inside = _parts_inside(FAMILIES[index["_class_name"]].denoiser, needed, _keys(file, name))
    outside = {part: kind for part, kind in needed.items() if part not in inside}
    _check_outside(outside, config, name)
    weights = weights_of(outside, config.names, config.name, dtype_for(FAMILIES[index["_class_name"]]))
    used = [file for _, files in weights.values() for file in files]
    if config.repository:
        fetch(config.repository, config.folder.name, [*small_files(parts), *used], report, CONFIG_SETTING)
    revision = _revision(file, config, [*parts, "scheduler"], used)
    if os.path.isfile(model_id) and wanted not in (None, revision):  # noqa: PTH113
        raise UnsuitableModel(
            f"{name} has the revision {revision}, but MODEL_REVISION is {wanted}. Change one of them."
        )
    variants = dict.fromkeys(inside) | {part: variant for part, (variant, _) in weights.items()}
    return ModelFiles(config.folder, name, revision, index, parts, variants, file, inside)


def _configuration(place: str, report: Report, names: Sequence[str]) -> Configuration:
    folder = Path(place)
    if os.path.isdir(place):  # noqa: PTH112
        return Configuration(folder, "MODEL_CONFIG", names_in(folder), None)
    repository, _, revision = place.partition("@")
    if folder.is_absolute() or repository.count("/") != 1:
        raise UnsuitableModel(
            "The folder in MODEL_CONFIG does not exist. Set a folder in diffusers format or a hub id."
        )
    folder = fetch(repository, revision or None, names, report, CONFIG_SETTING)
    return Configuration(folder, repository, names_on_hub(folder, repository), repository)


def _file(model_id: str, wanted: str | None, report: Report) -> Path:
    """The path of the file, after its download if it is on the hub."""
    if os.path.isfile(model_id):  # noqa: PTH113
        return Path(model_id)
    owner, _, rest = model_id.partition("/")
    name, _, inner = rest.partition("/")
    if not (owner and inner) or model_id.startswith((".", "~")):
        raise UnsuitableModel("The file in MODEL_ID does not exist. Set its path, or owner/name/file.safetensors.")
    file = fetch(f"{owner}/{name}", wanted, [inner], report) / inner
    if not file.is_file():
        raise UnsuitableModel(f"{owner}/{name} on the hub has no file {inner}. Check MODEL_ID.")
    return file


def _keys(file: Path, name: str) -> frozenset[str]:
    try:
        with safe_open(file, "pt") as opened:
            return frozenset(opened.keys())
    except Exception as error:  # a damaged file makes the library raise its own errors
        raise UnsuitableModel(f"{name} cannot be read as safetensors. Download it again.") from error


def _check_family(kind: str, name: str) -> None:
    able = [one for one in FAMILIES if issubclass(getattr(diffusers, one), FromSingleFileMixin)]
    if kind not in able:
        known = ", ".join(FAMILIES[one].name for one in able)
        raise UnsuitableModel(
            f"{name} is a single file, and of the family {FAMILIES[kind].name} only models in diffusers format are "
            f"supported. Single files can be of {known}."
        )


def _parts_inside(denoiser: str, parts: Mapping[str, tuple[str, str]], keys: Collection[str]) -> frozenset[str]:
    """The networks whose weights are in a file with these keys. Its denoiser always is."""

    def is_inside(part: str, kind: Any) -> bool:
        if part == "vae":
            is_kl = issubclass(kind, diffusers.AutoencoderKL)
            return is_kl and any(key.startswith(tuple(LDM_VAE_KEYS)) for key in keys)
        is_t5 = kind.__name__ == "T5EncoderModel"
        return bool(is_t5_in_single_file(keys) if is_t5 else is_clip_model_in_single_file(kind, keys))

    others = [part for part in parts if part == "vae" or part.startswith("text_encoder")]
    return frozenset({denoiser, *(part for part in others if is_inside(part, class_of(*parts[part])))})


def _without_absent_checker(index: dict[str, Any], config: Configuration) -> dict[str, Any]:
    """The index without its safety checker if there are no weights of it: a single file has none."""
    if not has_safety_checker(index) or any(
        name.startswith("safety_checker/") and name.endswith(ENDING) for name in config.names
    ):
        return index
    structlog.get_logger().warning("MODEL_CONFIG names a safety checker without weights; used without it")
    return index | {"safety_checker": None}


def _check_outside(outside: Mapping[str, tuple[str, str]], config: Configuration, name: str) -> None:
    for part, (_, kind) in outside.items():
        if part.startswith(("tokenizer", "feature_extractor")):
            continue
        if not any(path.startswith(f"{part}/") and path.endswith(ENDING) for path in config.names):
            raise UnsuitableModel(
                f"{name} has no {part} ({kind}), and {config.name} has no weights in safetensors for it either. Set "
                "MODEL_CONFIG to a model in diffusers format that has them."
            )


def _revision(file: Path, config: Configuration, parts: Collection[str], weights: Collection[str]) -> str:
    """SHA-256 of that of the file and of the configuration's commit, or of its files that are used."""
    if config.repository:
        configured = config.folder.name
    else:
        small = [path for part in parts for kind in SMALL_FILES for path in (config.folder / part).glob(f"**/*.{kind}")]
        used = [config.folder / INDEX, *small, *(config.folder / name for name in weights)]
        configured = digest_of((path.relative_to(config.folder).as_posix(), path) for path in used)
    return hashlib.sha256(f"{_sha256(file)}\n{configured}".encode()).hexdigest()


def _sha256(file: Path) -> str:
    """Of a file from the hub it is known: its download was checked, and the cache has it as the file's real name."""
    real = file.resolve()
    if file.is_symlink() and len(real.name) == SHA256_DIGITS and real.parent.name == "blobs":
        return real.name
    return sha256_of(real)
