"""The files of a model: its index, which of them are needed, their revision, and their download. Reads no weights."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import CachedRepoTreeNotFoundError

from momalisa_model.problems import UnsuitableModel

INDEX = "model_index.json"
# Part of the model, its library, and the classes that this service can use.
PARTS = {
    "unet": ("diffusers", ["UNet2DConditionModel"]),
    "vae": ("diffusers", ["AutoencoderKL", "AutoencoderTiny"]),
    "text_encoder": ("transformers", ["CLIPTextModel"]),
    "tokenizer": ("transformers", ["CLIPTokenizer", "CLIPTokenizerFast"]),
}
SAFETY_CHECKER_PARTS = {
    "safety_checker": ("stable_diffusion", ["StableDiffusionSafetyChecker"]),
    "feature_extractor": (
        "transformers",
        ["CLIPImageProcessor", "CLIPImageProcessorPil", "CLIPImageProcessorFast", "CLIPFeatureExtractor"],
    ),
}
NETWORKS = ("unet", "vae", "text_encoder", "safety_checker")
# model.safetensors, model.fp16.safetensors, and their shards, whose variant may be before or after the numbers.
WEIGHTS = re.compile(
    r"(diffusion_pytorch_)?model(\.(?P<variant>\w+))?(-\d{5}-of-\d{5})?(\.(?P<late_variant>\w+))?\.safetensors"
)
# None: the files without a variant, usually float32.
VARIANTS: dict[torch.dtype, tuple[str | None, ...]] = {
    torch.float32: (None, "fp16", "bf16"),
    torch.float16: ("fp16", None, "bf16"),
    torch.bfloat16: ("bf16", "fp16", None),
}


@dataclass(frozen=True)
class ModelFiles:
    """A folder in diffusers format that this service can load.

    index: its model_index.json. variants: which variant of its weights each network is loaded from; None stands for
    the files without a variant.
    """

    folder: Path
    model: str
    revision: str
    index: Mapping[str, Any]
    variants: Mapping[str, str | None]


def find_files(model_id: str, wanted: str | None, dtype: torch.dtype) -> ModelFiles:
    """The files of a hub id or a folder. Downloads what the hub's cache lacks, in the variant that fits the dtype.

    wanted: a branch, tag or commit of the hub, or a folder's SHA-256; None accepts any. The revision of a folder is its
    SHA-256, and that of a hub model is the commit. The index is read first, so that nothing is hashed or downloaded for
    a model that cannot be used. Raises UnsuitableModel. Its message contains no path, because it is sent over HTTP.
    """
    folder = Path(model_id)
    # False also for a name that is no path, where Path.is_dir raises OSError.
    if os.path.isdir(model_id):  # noqa: PTH112
        return _in_folder(folder, wanted, dtype)
    if folder.is_absolute() or model_id.count("/") != 1:
        raise UnsuitableModel("The folder in MODEL_ID does not exist. Set a folder in diffusers format or a hub id.")
    return _on_hub(model_id, wanted, dtype)


def _in_folder(folder: Path, wanted: str | None, dtype: torch.dtype) -> ModelFiles:
    model = folder_name(folder)
    index = _read_index(folder, model)
    variants = {part: variant for part, (variant, _) in _weights_of(index, _names_in(folder), model, dtype).items()}
    revision = folder_revision(folder)
    if wanted not in (None, revision):
        raise UnsuitableModel(
            f"{model} has the SHA-256 {revision}, but MODEL_REVISION is {wanted}. Change one of the two."
        )
    return ModelFiles(folder, model, revision, index, variants)


def _on_hub(model: str, wanted: str | None, dtype: torch.dtype) -> ModelFiles:
    folder = _download(model, wanted, [INDEX])
    index, commit = _read_index(folder, model), folder.name  # so the hub's cache names its folders
    weights = _weights_of(index, _names_on_hub(folder, model), model, dtype)
    small = [f"{part}/*.{ending}" for part in (*_parts_of(index), "scheduler") for ending in ("json", "txt")]
    _download(model, commit, [INDEX, *small, *(name for _, names in weights.values() for name in names)])
    return ModelFiles(folder, model, commit, index, {part: variant for part, (variant, _) in weights.items()})


def _download(model: str, revision: str | None, patterns: list[str]) -> Path:
    """The folder of a model in the hub's cache, after a download of the files that it lacks."""
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the hub's client raises its own errors, those of HTTP, and those of the disk
        raise UnsuitableModel(
            f"{model} at {revision or 'main'} could not be downloaded; the replica's log has the details. Check "
            "MODEL_ID, MODEL_REVISION, the connection, and HF_TOKEN if the model is not public."
        ) from error


def _names_on_hub(folder: Path, model: str) -> list[str]:
    """The paths of all files of a model at a commit, whether they are downloaded or not."""
    try:
        return [file.path for file in get_cached_repo_tree(model, revision=folder.name)]
    except CachedRepoTreeNotFoundError:  # there is no connection, and an older version has filled the cache
        return _names_in(folder)


def _names_in(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.glob("*/*")]


def _read_index(folder: Path, model: str) -> dict[str, Any]:
    """The model_index.json of a folder. Refuses every model but Stable Diffusion."""
    try:
        index = dict(json.loads((folder / INDEX).read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UnsuitableModel(f"{model} has no readable model_index.json. Use a model in diffusers format.") from error
    kind = index.get("_class_name")
    if kind != "StableDiffusionPipeline":
        raise UnsuitableModel(f"{model} is a {kind}. Only Stable Diffusion 1.x, 2.x and Turbo are supported.")
    for part, (library, kinds) in _parts_of(index).items():
        if index.get(part) not in [[library, kind] for kind in kinds]:
            wanted = f"{' or '.join(kinds)} of {library}"
            raise UnsuitableModel(f"The {part} of {model} is {json.dumps(index.get(part))}. It must be {wanted}.")
    return index


def has_safety_checker(index: Mapping[str, Any]) -> bool:
    """Whether a model_index.json names a safety checker."""
    return index.get("safety_checker") not in (None, [None, None])


def _parts_of(index: Mapping[str, Any]) -> dict[str, tuple[str, list[str]]]:
    return PARTS | SAFETY_CHECKER_PARTS if has_safety_checker(index) else PARTS


def _weights_of(
    index: Mapping[str, Any], names: Iterable[str], model: str, dtype: torch.dtype
) -> dict[str, tuple[str | None, list[str]]]:
    """For each network, the variant of its weights to load and the files of this variant, of the files with `names`."""
    found: dict[str, dict[str | None, list[str]]] = {part: {} for part in NETWORKS if part in _parts_of(index)}
    for name in names:
        part, _, file = name.partition("/")
        if part in found and (weights := WEIGHTS.fullmatch(file)):
            found[part].setdefault(weights["variant"] or weights["late_variant"], []).append(name)
    chosen: dict[str, tuple[str | None, list[str]]] = {}
    for part, there in found.items():
        # The safety checker always computes in float32.
        fitting = [one for one in VARIANTS[torch.float32 if part == "safety_checker" else dtype] if one in there]
        if not fitting:
            raise UnsuitableModel(_without_weights(part, model, there))
        chosen[part] = (fitting[0], there[fitting[0]])
    return chosen


def _without_weights(part: str, model: str, variants: Iterable[str | None]) -> str:
    others = ", ".join(map(str, variants))
    lack = f"no weights in safetensors{f' but those of the variant {others}' if others else ''}"
    if part == "safety_checker":
        return (
            f"{model} names a safety checker that has {lack}. Complete the model's files, or set safety_checker to "
            "[null, null] in its model_index.json to run without a checker."
        )
    return (
        f"The {part} of {model} has {lack}. Use a model whose weights are in safetensors, plain or as the variant fp16 "
        "or bf16."
    )


def folder_name(folder: Path) -> str:
    """The model's name if no card has one: the last part of the folder's path that is not "weights"."""
    return next((part for part in reversed(folder.resolve().parts[1:]) if part != "weights"), "model")


def folder_revision(folder: Path) -> str:
    """SHA-256 (64 hexadecimal digits) of the files that decide pixels in a folder in diffusers format.

    These are model_index.json, and every *.safetensors, *.json and *.txt in the subfolders; a model card or README
    does not count. In the order of their relative POSIX paths, each file adds its path, NUL, and the SHA-256 of its
    bytes.
    """
    inner = (path for kind in ("safetensors", "json", "txt") for path in folder.glob(f"*/**/*.{kind}"))
    named = sorted((path.relative_to(folder).as_posix(), path) for path in (folder / INDEX, *inner))
    whole = hashlib.sha256()
    for name, path in named:
        if path.is_file() and not name.startswith("."):
            with path.open("rb") as file:
                whole.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
