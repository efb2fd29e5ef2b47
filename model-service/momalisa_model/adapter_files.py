"""The files of adapters, in safetensors: finds, downloads and names them, and tells the two kinds apart. Loads none."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from momalisa_model.fetched import origin_of
from momalisa_model.hub import Report, fetch, sha256_of
from momalisa_model.model_files import folder_name, names_on_hub
from momalisa_model.problems import UnsuitableModel
from momalisa_model.sources import Source, parse_sources
from momalisa_model.wire import Adapter

ADAPTERS_SETTING = "MODEL_ADAPTERS"
# Names that diffusers gives to the file of an adapter.
USUAL_NAMES = ("pytorch_lora_weights.safetensors", "learned_embeds.safetensors", "adapter_model.safetensors")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
SHOWN = 5
DORA = "dora_scale"
# The keys of a textual inversion for one text encoder, and for both of SDXL; others have their token as the only key.
ONE_ENCODER, TWO_ENCODERS = {"emb_params"}, {"clip_l", "clip_g"}


@dataclass(frozen=True)
class AdapterFile:
    """A LoRA or a textual inversion in safetensors, and its entry in the model card."""

    path: Path
    card: Adapter


def find_adapters(setting: str | None, report: Report) -> tuple[AdapterFile, ...]:
    """The files in MODEL_ADAPTERS, in their order, downloaded if they are on the hub. Raises UnsuitableModel."""
    return tuple(_adapter(source, report) for source in parse_sources(setting or ""))


def _adapter(source: Source, report: Report) -> AdapterFile:
    # False also for a name that is no path, where Path.exists raises OSError.
    on_disk = os.path.exists(source.place)  # noqa: PTH110
    path, name, commit = _on_disk(Path(source.place)) if on_disk else _downloaded(source, report)
    keys = _keys_of(path, name)
    if any(DORA in key for key in keys):  # diffusers would leave these out
        raise UnsuitableModel(f"{name} in MODEL_ADAPTERS is a DoRA, which is not supported. Use a LoRA.")
    token = _token_of(keys, path)
    card = Adapter(model=name, revision=commit or sha256_of(path), token=token)
    if token is None:
        card = card.model_copy(update={"weight": 1.0 if source.weight is None else source.weight})
    elif source.weight is not None:
        raise UnsuitableModel(f"{name} in MODEL_ADAPTERS is a textual inversion, which has no weight. Leave it out.")
    return AdapterFile(path, card)


def _on_disk(path: Path) -> tuple[Path, str, str | None]:
    """The file, its name, and the commit if it was fetched from the hub."""
    if path.is_dir():
        path = path / _chosen((one.name for one in path.iterdir()), folder_name(path))
    else:
        _chosen([path.name], path.name)
    name, commit = origin_of(path) or (path.name, None)
    return path, name, commit


def _downloaded(source: Source, report: Report) -> tuple[Path, str, str]:
    """The file in the hub's cache, its name on the hub, and the commit."""
    if source.on_hub is None:
        raise UnsuitableModel("A file or folder in MODEL_ADAPTERS does not exist. Set existing ones, or hub ids.")
    repository, name = source.on_hub
    cache = fetch(repository, source.revision, ["*.json"], report, ADAPTERS_SETTING)
    names = names_on_hub(cache, repository)
    name = _chosen([name] if name else names, repository)
    if name not in names:
        raise UnsuitableModel(f"{repository} has no file {name}. Correct MODEL_ADAPTERS.")
    fetch(repository, cache.name, [name], report, ADAPTERS_SETTING)
    return cache / name, f"{repository}/{name}", cache.name


def _chosen(names: Iterable[str], where: str) -> str:
    """The one file of an adapter among these. Pickles are refused, because they can run code."""
    listed = sorted(names)
    safe = [name for name in listed if name.endswith(".safetensors")]
    usual = [name for name in safe if name in USUAL_NAMES]
    if len(safe) == 1 or len(usual) == 1:
        return safe[0] if len(safe) == 1 else usual[0]
    if safe:
        raise UnsuitableModel(
            f"{where} in MODEL_ADAPTERS has several files ({_listed(safe)}). Name one of them, as PLACE/FILE."
        )
    if pickles := [name for name in listed if name.endswith(PICKLES)]:
        raise UnsuitableModel(
            f"{pickles[0]} in MODEL_ADAPTERS is a pickle, which can run code. Convert it to safetensors: "
            'safetensors.torch.save_file(torch.load("old.bin", weights_only=True), "new.safetensors").'
        )
    raise UnsuitableModel(f"{where} in MODEL_ADAPTERS has no weights in safetensors. Use an adapter that has.")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _keys_of(path: Path, name: str) -> set[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return set(file.keys())
    except (OSError, SafetensorError) as error:
        raise UnsuitableModel(f"{name} in MODEL_ADAPTERS is damaged, or no file in safetensors. Replace it.") from error


def _token_of(keys: set[str], path: Path) -> str | None:
    """The token of a textual inversion, in lower case, as tokenizers read it; None for a LoRA.

    It is the only key of diffusers' files, and the name of the file elsewhere.
    """
    if keys in (ONE_ENCODER, TWO_ENCODERS):
        return path.stem.lower()
    return next(iter(keys)).lower() if len(keys) == 1 else None
