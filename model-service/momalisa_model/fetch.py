"""`momalisa-model fetch`: puts the models of recipes into MOMALISA_WEIGHTS, so that replicas download nothing.

Files are downloaded into a cache of the hub's client, in a hidden folder beside their place, and moved at the end.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import structlog
import torch
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

from momalisa_model.families import Family
from momalisa_model.fetched import FETCHED, read_fetched
from momalisa_model.hub import downloading_into
from momalisa_model.model_files import find_files
from momalisa_model.model_recipe import ModelRecipe, read_recipes
from momalisa_model.problems import DownloadFailed, UnsuitableModel
from momalisa_model.settings import Settings
from momalisa_model.weights_home import lend, publish, record_at, remove_damaged, sha256_of

# Inside the folder of the model, so that renaming copies nothing.
DOWNLOADS = ".download"

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
    if not update and _is_fetched(recipe, home, verify):
        log.info("already fetched", model=recipe.name)
        return
    cache = home / DOWNLOADS
    cache.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(cache / "lock"), downloading_into(cache, "MOMALISA_WEIGHTS"):
        before = record_at(home / FETCHED)
        # A branch stays at its commit.
        commit = before.revision if before and not update and before.fits(recipe.model_id, recipe.revision) else None
        repository = cache / repo_folder_name(repo_id=recipe.model_id, repo_type="model")
        lend(home, repository)
        remove_damaged(repository)
        files = find_files(recipe.model_id, commit or recipe.revision, partial(_dtype, recipe, settings), log.debug)
        record = publish(files.folder, home, recipe.model_id, recipe.revision)
        shutil.rmtree(cache)
    size = sum(file.bytes for file in record.files.values())
    log.info("fetched", model=recipe.name, revision=record.revision, files=len(record.files), bytes=size)


def _is_fetched(recipe: ModelRecipe, home: Path, verify: bool) -> bool:
    try:
        record = read_fetched(home)
    except DownloadFailed as problem:
        log.warning("fetched again", reason=str(problem))
        return False
    if not record or not record.fits(recipe.model_id, recipe.revision):
        return False
    for name, file in record.files.items() if verify else ():
        if sha256_of(home / name) != file.sha256:
            log.warning("fetched again", reason=f"{name} has another SHA-256 than when it was fetched")
            return False
    return True


def _dtype(recipe: ModelRecipe, settings: Settings, family: Family) -> torch.dtype:
    """The precision that replicas will load, which decides the variant of the weights. This machine may have no GPU."""
    if settings.dtype != "auto" or recipe.dtype:
        return getattr(torch, recipe.dtype if settings.dtype == "auto" else settings.dtype)  # type: ignore
    return family.half if recipe.resources.gpu else torch.float32
