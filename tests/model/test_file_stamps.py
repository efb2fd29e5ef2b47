"""Folders that are being copied while a replica loads from them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from threading import Event, Thread

import pytest

from momalisa_model.file_stamps import unchanged
from momalisa_model.problems import FilesChanged, UnsuitableModel
from tests.support.model_server import Server, wait_until

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(models, tmp_path) -> Path:
    """A copy of the plain model."""
    return Path(shutil.copytree(models["plain"], tmp_path / "plain"))


def grow(path: Path, stop: Event) -> None:
    """Write to a file until it shall stop, as a copy over a slow network does."""
    while not stop.wait(0.01):
        with path.open("ab") as file:
            file.write(b"\0")


def test_a_folder_that_is_still_copied_is_loaded_when_it_is_complete(folder, models, settings_for, monkeypatch):
    """Its replica would never be ready, or its revision would be that of a file that is no longer there."""
    monkeypatch.setattr("momalisa_model.replica.PAUSES_S", (0.1,))
    stop, unet = Event(), folder / UNET
    os.truncate(unet, 1000)
    copying = Thread(target=grow, args=(unet, stop))
    copying.start()
    try:
        with Server(settings_for(str(folder)), ready=False) as server:
            wait_until(lambda: "The files of plain changed while they were loaded" in server.get("/readyz").text)
            stop.set()
            copying.join()
            partial = folder / "unet" / ".partial"
            shutil.copy(models["plain"] / UNET, partial)
            partial.replace(unet)
            wait_until(lambda: server.get("/readyz").status_code == 200)
    finally:
        stop.set()
        copying.join()


def test_an_incomplete_folder_says_that_the_replica_must_be_started_again(folder, settings_for):
    """Nothing announces that the copy of a folder continues."""
    os.truncate(folder / UNET, 1000)
    with Server(settings_for(str(folder)), ready=False) as server:
        wait_until(lambda: "being loaded" not in server.get("/readyz").text)
        assert "when this replica is started again" in server.get("/readyz").json()["detail"]


@pytest.mark.parametrize("setting", ["model_id", "model_configuration", "model_vae", "model_adapters"])
def test_a_file_of_each_part_that_changes_is_noticed(folder, settings_for, setting):
    """All of them are part of the revision."""
    settings = settings_for("someone/small", **{setting: str(folder)})
    file = folder / ("model_index.json" if setting in ("model_vae", "model_adapters") else UNET)
    with pytest.raises(FilesChanged), unchanged(settings):
        os.utime(file, ns=(0, 0))
    with unchanged(settings):
        file.read_bytes()
        (folder / "notes.log").touch()


def test_an_error_beside_unchanged_files_stays(folder, settings_for):
    """Trying again would not help."""
    with pytest.raises(UnsuitableModel, match="no reason"), unchanged(settings_for(str(folder))):
        raise UnsuitableModel("no reason")
