"""The files of a model: its index, which of them are needed, their revision, and their download. Reads no weights."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import diffusers
import torch
from huggingface_hub import get_cached_repo_tree
from huggingface_hub.errors import CachedRepoTreeNotFoundError

from momalisa_model.families import FAMILIES, Family, class_of_family
from momalisa_model.fetched import read_fetched
from momalisa_model.hub import Report, fetch, sha256_of
from momalisa_model.problems import UnsuitableModel
from momalisa_model.wire import Origin

INDEX = "model_index.json"
VAE_CONFIG = "vae/config.json"
# The checker is loaded apart; the others are for pictures as input.
UNUSED_PARTS = ("safety_checker", "feature_extractor", "image_encoder")
# Stable Diffusion 3 works without its largest text encoder, in less memory.
OPTIONAL_PARTS = ("text_encoder_3", "tokenizer_3")
SAFETY_CHECKER_PARTS = {
    "safety_checker": ("stable_diffusion", ["StableDiffusionSafetyChecker"]),
    "feature_extractor": (
        "transformers",
        ["CLIPImageProcessor", "CLIPImageProcessorPil", "CLIPImageProcessorFast", "CLIPFeatureExtractor"],
    ),
}
# A tokenizer's class may have a name of any library version; the files decide what it does.
ANY_TOKENIZER = ("AutoTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend")
SMALL_FILES = ("json", "txt", "jinja", "model")
CONVERT = (
    """python -c "from diffusers import DiffusionPipeline as P; P.from_pretrained('OLD').save_pretrained('NEW')\""""
)
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
class Use:
    """What a model is loaded for.

    setting: names the model, for messages. class_of: the key of FAMILIES for the class in an index and the model's
    name; raises UnsuitableModel. checked: whether its safety checker is needed.
    """

    setting: str = "MODEL_ID"
    class_of: Callable[[object, str], str] = class_of_family
    checked: bool = True


RENDERS = Use()


@dataclass(frozen=True)
class OtherVae:
    """A VAE that replaces the model's own.

    names: all files in its folder, whether they are downloaded or not. repository, start: where it is on the hub, and
    the path in there up to the names; None and empty for a folder. config: its config.json.
    """

    folder: Path
    origin: Origin
    names: tuple[str, ...]
    repository: str | None = None
    start: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelFiles:
    """A folder in diffusers format that this service can load.

    index: its model_index.json. kind: the class of its pipeline. parts: library and class of each part that is needed,
    except the scheduler. variants: which variant of its weights each network is loaded from; None stands for
    the files without a variant. file: a single file with weights, and inside: the networks that are loaded from it.
    vae: what replaces the model's own, if anything does.
    """

    folder: Path
    model: str
    revision: str
    index: Mapping[str, Any]
    parts: Mapping[str, tuple[str, str]]
    variants: Mapping[str, str | None]
    file: Path | None = None
    inside: frozenset[str] = frozenset()
    vae: OtherVae | None = None

    def folder_of(self, part: str) -> Path:
        """The folder of a part."""
        return self.vae.folder if self.vae and part == "vae" else self.folder / part

    def named(self, part: str) -> str:
        """A part as the beginning of a sentence."""
        return (
            f"The {part} of {self.model}" if part != "vae" or not self.vae else f"{self.vae.origin.model} in MODEL_VAE"
        )

    @property
    def kind(self) -> str:
        """The class of the pipeline, a key of FAMILIES."""
        return str(self.index["_class_name"])

    @property
    def family(self) -> Family:
        """What is known about this class."""
        return FAMILIES[self.kind]


def find_files(
    model_id: str,
    wanted: str | None,
    dtype_for: Callable[[Family], torch.dtype],
    report: Report,
    vae: OtherVae | None = None,
    use: Use = RENDERS,
) -> ModelFiles:
    """The files of a hub id or a folder. Downloads what the hub's cache lacks, in the variant that fits the dtype.

    wanted: a branch, tag or commit of the hub, or a folder's SHA-256; None accepts any. dtype_for: the precision that a
    family is loaded in. report: gets sentences about the progress of a download. vae: replaces the model's own, whose
    weights are not needed then. The revision of a folder is its SHA-256, and that of a hub model is the commit. The
    index is read first, so that nothing is hashed or downloaded for a model that cannot be used. Raises
    UnsuitableModel. Its message contains no path, because it is sent over HTTP.
    """
    folder = Path(model_id)
    # False also for a name that is no path, where Path.is_dir raises OSError.
    if os.path.isdir(model_id):  # noqa: PTH112
        return _in_folder(folder, wanted, dtype_for, vae, use)
    if folder.is_absolute() or model_id.count("/") != 1:
        raise UnsuitableModel(
            f"The folder in {use.setting} does not exist. Set a folder in diffusers format or a hub id."
        )
    return _on_hub(model_id, wanted, dtype_for, report, vae, use)


def _in_folder(
    folder: Path, wanted: str | None, dtype_for: Callable[[Family], torch.dtype], vae: OtherVae | None, use: Use
) -> ModelFiles:
    model = folder_name(folder)
    index = index_with_vae(read_index(folder, model, use), vae, folder, model)
    parts = parts_of(index, model)
    weights = weights_of(of_model(parts, vae), names_in(folder), model, dtype_for(FAMILIES[index["_class_name"]]))
    variants = {part: variant for part, (variant, _) in weights.items()}
    fetched = read_fetched(folder)
    revision = fetched.revision if fetched else folder_revision(folder)
    if wanted not in (None, revision):
        raise UnsuitableModel(
            f"{model} has the SHA-256 {revision}, but MODEL_REVISION is {wanted}. Change one of the two."
        )
    return ModelFiles(folder, model, revision, index, parts, variants)


def _on_hub(
    model: str,
    wanted: str | None,
    dtype_for: Callable[[Family], torch.dtype],
    report: Report,
    vae: OtherVae | None,
    use: Use,
) -> ModelFiles:
    folder = fetch(model, wanted, [INDEX, VAE_CONFIG] if vae else [INDEX], report, use.setting)
    commit = folder.name  # so the hub's cache names its folders
    index = index_with_vae(read_index(folder, model, use), vae, folder, model)
    parts = parts_of(index, model)
    dtype = dtype_for(FAMILIES[index["_class_name"]])
    weights = weights_of(of_model(parts, vae), names_on_hub(folder, model), model, dtype)
    names = [*small_files(parts), *(name for _, some in weights.values() for name in some)]
    fetch(model, commit, names, report, use.setting)
    variants = {part: variant for part, (variant, _) in weights.items()}
    return ModelFiles(folder, model, commit, index, parts, variants)


def small_files(parts: Iterable[str]) -> list[str]:
    """Patterns of the index and of the small files of these parts."""
    return [INDEX, *(f"{part}/*.{ending}" for part in (*parts, "scheduler") for ending in SMALL_FILES)]


def names_on_hub(folder: Path, model: str) -> list[str]:
    """The paths of all files of a model at a commit, whether they are downloaded or not."""
    try:
        return [file.path for file in get_cached_repo_tree(model, revision=folder.name)]
    except CachedRepoTreeNotFoundError:  # there is no connection, and an older version has filled the cache
        return names_in(folder)


def names_in(folder: Path) -> list[str]:
    """The paths of all files in the subfolders."""
    return [path.relative_to(folder).as_posix() for path in folder.glob("*/*")]


def read_index(folder: Path, model: str, use: Use = RENDERS) -> dict[str, Any]:
    """The model_index.json of a folder. Refuses every model whose family is not in the table."""
    try:
        index = dict(json.loads((folder / INDEX).read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UnsuitableModel(f"{model} has no readable model_index.json. Use a model in diffusers format.") from error
    if not use.checked:
        index.pop("safety_checker", None)
    return index | {"_class_name": use.class_of(index.get("_class_name"), model)}


def index_with_vae(index: dict[str, Any], vae: OtherVae | None, folder: Path, model: str) -> dict[str, Any]:
    """The index with another VAE, if there is one. Refuses one of another class, or with other latents."""
    if not vae:
        return index
    entry, kinds = ["diffusers", vae.config.get("_class_name")], _constructor_parts(index["_class_name"])["vae"]
    if not _fits("vae", entry, kinds):
        wanted = " or ".join(_names_of("vae", kinds))
        raise UnsuitableModel(f"{vae.origin.model} in MODEL_VAE is a {entry[1]}. A VAE of {model} must be {wanted}.")
    try:
        own = json.loads((folder / VAE_CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):  # it lacks what is replaced
        own = {}
    for name in ("latent_channels", "z_dim"):
        given, needed = vae.config.get(name), own.get(name) if isinstance(own, dict) else None
        if None not in (given, needed) and given != needed:
            latents = f"latents with {given} channels, but those of {model} have {needed}"
            raise UnsuitableModel(f"{vae.origin.model} in MODEL_VAE is for {latents}. Use a VAE for this model.")
    scale, needed = _scale_of(vae.config), _scale_of(own)
    if None not in (scale, needed) and scale != needed:
        raise UnsuitableModel(
            f"{vae.origin.model} in MODEL_VAE has {scale} pixels per latent, but {model} has {needed}. Use a VAE for "
            "this model."
        )
    return index | {"vae": entry}


def _scale_of(config: object) -> int | None:
    """Pixels per latent, horizontally and vertically, that the config.json of a VAE tells; None if it does not."""
    fields = ("block_out_channels", "encoder_block_out_channels", "dim_mult")
    found = (config.get(field) for field in fields) if isinstance(config, dict) else ()
    return next((2 ** (len(levels) - 1) for levels in found if isinstance(levels, list) and levels), None)


def of_model(parts: Mapping[str, tuple[str, str]], vae: OtherVae | None) -> dict[str, tuple[str, str]]:
    """The parts whose weights are those of the model itself."""
    return {part: kind for part, kind in parts.items() if part != "vae" or not vae}


def parts_of(index: Mapping[str, Any], model: str) -> dict[str, tuple[str, str]]:
    """The library and the class of each part of a model that is needed, except the scheduler.

    Refuses classes other than those of the stock pipeline's constructor, before anything of them is loaded.
    """
    parts = {}
    for part, kinds in _constructor_parts(index["_class_name"]).items():
        entry: Any = index.get(part)
        if part in OPTIONAL_PARTS and entry in (None, [None, None]):
            continue
        if not _fits(part, entry, kinds):
            _refuse(part, entry, _names_of(part, kinds), kinds[0].__module__.partition(".")[0], model)
        given, name = entry  # a list of two, or it would not fit
        parts[part] = (str(given), str(name))
    for part, (library, names) in SAFETY_CHECKER_PARTS.items() if has_safety_checker(index) else ():
        entry = index.get(part)
        if entry not in [[library, name] for name in names]:
            _refuse(part, entry, names, library, model)
        parts[part] = (library, str(entry[1]))
    return parts


def _refuse(part: str, entry: object, names: Sequence[str], library: str, model: str) -> NoReturn:
    wanted = f"{' or '.join(names)} of {library}"
    raise UnsuitableModel(f"The {part} of {model} is {json.dumps(entry)}. It must be {wanted}.")


def _constructor_parts(kind: str) -> dict[str, tuple[type, ...]]:
    """The classes that a stock pipeline's constructor names for each of its parts."""
    types: dict[str, tuple[type, ...]] = getattr(diffusers, kind)._get_signature_types()
    libraries = ("diffusers.", "transformers.")
    return {
        part: kinds
        for part, kinds in types.items()
        if part != "scheduler" and part not in UNUSED_PARTS and kinds[0].__module__.startswith(libraries)
    }


def _fits(part: str, entry: object, kinds: tuple[type, ...]) -> bool:
    """Whether an entry [library, class] of a model_index.json is one of these classes or a subclass."""
    if not (isinstance(entry, list) and len(entry) == 2 and entry[0] == kinds[0].__module__.partition(".")[0]):
        return False
    if entry[1] in _names_of(part, kinds):
        return True
    if part.startswith("tokenizer"):
        return entry[1] in ANY_TOKENIZER or kinds[0].__name__ in ANY_TOKENIZER
    found = getattr(import_module(entry[0]), str(entry[1]), None)
    return isinstance(found, type) and issubclass(found, kinds)


def _names_of(part: str, kinds: tuple[type, ...]) -> list[str]:
    """The names of classes for a message: of autoencoders a small one too, of tokenizers also the fast one."""
    names = [kind.__name__ for kind in kinds]
    if part == "vae" and names == ["AutoencoderKL"]:
        return [*names, "AutoencoderTiny"]
    return [*names, *(f"{name}Fast" for name in names)] if part.startswith("tokenizer") else names


def class_of(library: str, name: str) -> Any:
    """The class of a part. Newer versions of transformers have tokenizers under one of their two names only."""
    module = import_module(library)
    return getattr(module, name, None) or getattr(module, name.removesuffix("Fast"))


def has_safety_checker(index: Mapping[str, Any]) -> bool:
    """Whether a model_index.json names a safety checker."""
    return index.get("safety_checker") not in (None, [None, None])


def weights_of(
    parts: Mapping[str, tuple[str, str]], names: Iterable[str], model: str, dtype: torch.dtype
) -> dict[str, tuple[str | None, list[str]]]:
    """For each network, the variant of its weights to load and the files of this variant, of the files with `names`."""
    networks = [part for part in parts if not part.startswith(("tokenizer", "feature_extractor"))]
    names = list(names)
    found: dict[str, dict[str | None, list[str]]] = {part: {} for part in networks}
    for name in names:
        part, _, file = name.partition("/")
        if part in found and (weights := WEIGHTS.fullmatch(file)):
            found[part].setdefault(weights["variant"] or weights["late_variant"], []).append(name)
    chosen: dict[str, tuple[str | None, list[str]]] = {}
    for part, there in found.items():
        # The safety checker always computes in float32.
        fitting = [one for one in VARIANTS[torch.float32 if part == "safety_checker" else dtype] if one in there]
        if not fitting:
            pickled = any(name.startswith(f"{part}/") and name.endswith(".bin") for name in names)
            raise UnsuitableModel(_without_weights(part, model, there, pickled))
        chosen[part] = (fitting[0], there[fitting[0]])
    return chosen


def _without_weights(part: str, model: str, variants: Iterable[str | None], pickled: bool) -> str:
    others = ", ".join(map(str, variants))
    lack = f"no weights in safetensors{f' but those of the variant {others}' if others else ''}"
    if part == "safety_checker":
        return (
            f"{model} names a safety checker that has {lack}. Complete the model's files, or set safety_checker to "
            "[null, null] in its model_index.json to run without a checker."
        )
    if pickled and not variants:
        return (
            f"The {part} of {model} has its weights in .bin files, and only safetensors are read. Convert the model "
            f"OLD into the folder NEW, and set MODEL_ID to that: {CONVERT}"
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

    These are model_index.json, and every *.safetensors, *.json, *.txt, *.jinja (chat templates) and *.model (words of
    tokenizers) in the subfolders; a model card or README does not count. In the order of their relative POSIX paths,
    each file adds its path, NUL, and the SHA-256 of its bytes.
    """
    inner = (path for kind in ("safetensors", *SMALL_FILES) for path in folder.glob(f"*/**/*.{kind}"))
    return digest_of((path.relative_to(folder).as_posix(), path) for path in (folder / INDEX, *inner))


def digest_of(named: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 of files under these names, in the order of the names: see folder_revision."""
    whole = hashlib.sha256()
    for name, path in sorted(named):
        if path.is_file() and not name.startswith("."):
            whole.update(name.encode() + b"\0" + bytes.fromhex(sha256_of(path)))
    return whole.hexdigest()
