"""`momalisa-model fetch`: puts the models of recipes into MOMALISA_WEIGHTS, so that replicas download nothing.

Files are downloaded into a cache of the hub's client, in a hidden folder beside their place, and moved at the end.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog
import torch
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

from momalisa_model.adapter_files import find_adapters
from momalisa_model.families import Family
from momalisa_model.fetched import FETCHED, Part
from momalisa_model.fill_files import find_filling
from momalisa_model.hub import downloading_into, sha256_of
from momalisa_model.model_files import find_files
from momalisa_model.model_recipe import ModelRecipe, parts_of_recipe, read_recipes
from momalisa_model.network_files import find_network
from momalisa_model.problems import DownloadFailed, UnsuitableModel
from momalisa_model.settings import Settings
from momalisa_model.sources import parse_sources
from momalisa_model.vae_files import find_vae, with_vae
from momalisa_model.weights_home import lend, publish, record_at, remove_damaged

# Inside the folder of the model, so that renaming copies nothing.
DOWNLOADS = ".download"
# The commit of each repository at the revision that a recipe names.
Commits = Mapping[tuple[str, str | None], str]

log = structlog.get_logger()


def fetch_recipes(settings: Settings, names: Sequence[str], update: bool = False, verify: bool = False) -> None:
    """Fetch the models of these recipes, or of those in MOMALISA_RECIPES, one after another.

    update: whether branches are resolved again. verify: whether files that were fetched before are hashed. Raises
    UnsuitableModel for a wrong setting or recipe, and DownloadFailed.
    """
    if settings.weights is None:
        raise UnsuitableModel("Set MOMALISA_WEIGHTS to the folder for the weights.")
    if not (names := names or settings.recipes.split()):
        raise UnsuitableModel("Name a model recipe, or set MOMALISA_RECIPES.")
    for recipe in read_recipes(names):
        if recipe.on_hub:
            _fetch(recipe, settings.weights / recipe.name, settings, update, verify)
        else:
            log.info("nothing to fetch", model=recipe.name, model_id=recipe.model_id)


def _fetch(recipe: ModelRecipe, home: Path, settings: Settings, update: bool, verify: bool) -> None:
    parts = parts_of_recipe(recipe, home)
    if not update and all(_is_fetched(part, verify) for part in parts):
        log.info("already fetched", model=recipe.name)
        return
    cache = home / DOWNLOADS
    cache.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(cache / "lock"), downloading_into(cache, "MOMALISA_WEIGHTS"):
        for part in parts:
            repository = _repository(cache, part)
            lend(part.folder, repository)
            remove_damaged(repository)
        commits = _download(recipe, {} if update else _earlier(parts), partial(_dtype, recipe, settings))
        records = [publish(_repository(cache, part) / "snapshots" / commits[part.source], part) for part in parts]
        shutil.rmtree(cache)
    size = sum(file.bytes for record in records for file in record.files.values())
    log.info("fetched", model=recipe.name, revision=records[-1].revision, bytes=size)


def _repository(cache: Path, part: Part) -> Path:
    return cache / repo_folder_name(repo_id=part.model_id, repo_type="model")


def _is_fetched(part: Part, verify: bool) -> bool:
    try:
        record = part.record
    except DownloadFailed as problem:
        log.warning("fetched again", reason=str(problem))
        return False
    for name, file in record.files.items() if record and verify else ():
        if sha256_of(part.folder / name) != file.sha256:
            log.warning("fetched again", reason=f"{name} has another SHA-256 than when it was fetched")
            return False
    return record is not None


def _earlier(parts: Sequence[Part]) -> Commits:
    """The commits of an earlier fetch, at which branches stay."""
    records = {part: record_at(part.folder / FETCHED) for part in parts}
    return {part.source: record.revision for part, record in records.items() if record and record.fits(*part.source)}


def _download(recipe: ModelRecipe, pinned: Commits, dtype_for: Callable[[Family], torch.dtype]) -> Commits:
    """Download what replicas would load, at these commits where they are given. Returns the commits of all parts."""
    if recipe.engine != "diffusion":
        return _download_networks(recipe, pinned, dtype_for)
    vae = find_vae(_pinned(recipe.vae, pinned), log.debug)
    adapters = find_adapters(_pinned(recipe.adapters, pinned), log.debug)
    model = (recipe.model_id, recipe.revision)
    files = find_files(recipe.model_id, pinned.get(model, recipe.revision), dtype_for, log.debug, vae)
    if vae:
        with_vae(files, vae, dtype_for(files.family), log.debug)
    sources = [*parse_sources(recipe.vae or ""), *parse_sources(recipe.adapters or "")]
    revisions = [*([vae.origin.revision] if vae else []), *(one.card.revision for one in adapters)]
    named = zip(sources, revisions, strict=True)
    commits = {(one.on_hub[0], one.revision): revision for one, revision in named if one.on_hub}
    return {**commits, model: files.revision}


def _download_networks(recipe: ModelRecipe, pinned: Commits, dtype_for: Callable[[Family], torch.dtype]) -> Commits:
    """The same for a model in transformers' format, and for the diffusion model that fills, if there is one."""
    commits: dict[tuple[str, str | None], str] = {}
    if fill := recipe.fill_on_hub:
        setting = _pinned(recipe.fill_model, pinned) or ""
        commits[fill.place, fill.revision] = find_filling(setting, dtype_for, log.debug).revision
    if recipe.model_on_hub:
        model = (recipe.model_id, recipe.revision)
        commits[model] = find_network(recipe.model_id, pinned.get(model, recipe.revision), log.debug).revision
    return commits


def _pinned(setting: str | None, pinned: Commits) -> str | None:
    """The sources in a setting, at these commits."""
    sources = []
    for source in parse_sources(setting or ""):
        repository = source.on_hub[0] if source.on_hub else ""
        sources.append(replace(source, revision=pinned.get((repository, source.revision), source.revision)))
    return ",".join(map(str, sources)) or None


def _dtype(recipe: ModelRecipe, settings: Settings, family: Family) -> torch.dtype:
    """The precision that replicas will load, which decides the variant of the weights. This machine may have no GPU."""
    if settings.dtype != "auto" or recipe.dtype:
        return getattr(torch, recipe.dtype if settings.dtype == "auto" else settings.dtype)  # type: ignore
    return family.half if recipe.resources.gpu else torch.float32
