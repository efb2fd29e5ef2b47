"""`momalisa-model fetch`: weights that are downloaded once, verified, and loaded without a network."""

from __future__ import annotations

import builtins
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from diffusers import StableDiffusionPipeline

from momalisa_model import arguments, command
from momalisa_model.engines.loading import load_engine
from momalisa_model.fetch import fetch_recipes
from momalisa_model.hub import sha256_of
from momalisa_model.lifecycle import load_model
from momalisa_model.model_recipe import sources_of
from momalisa_model.problems import DownloadFailed, UnsuitableModel
from momalisa_model.settings import Settings
from tests.support.hub import COMMIT, Hub
from tests.support.instance_networks import save_instance_network
from tests.support.model_server import Server, wait_until
from tests.support.processes import start
from tests.support.recipes import write_recipe
from tests.support.small_adapters import save_lora, save_vae
from tests.support.small_families import small_family

VAE = "vae/diffusion_pytorch_model.safetensors"
UNET = "unet/diffusion_pytorch_model.safetensors"
NEXT = "89abcdef0123456789abcdef0123456789abcdef"
LARGE_BYTES = 32_000_000
NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A replica with the recipe small, whose weights are in the folder weights."""
    file = write_recipe(tmp_path, "small", "someone/small", revision="main")
    return Settings(recipes=str(file), weights=tmp_path / "weights", device="cpu", threads=1, port=0)


@pytest.fixture
def hub(models: dict[str, Path], hub_of: Callable) -> Iterator[Hub]:
    """A hub with the plain model as someone/small."""
    with hub_of(models["plain"]) as running:
        yield running


def home_of(settings: Settings) -> Path:
    assert settings.weights
    return settings.weights / "small"


def record_of(settings: Settings) -> dict:
    return json.loads((home_of(settings) / "fetched.json").read_text())


def damage(path: Path) -> None:
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_model_is_fetched_into_a_plain_folder_with_a_record(hub, settings):
    """Buckets that are mounted as folders have no links, and other programs can read the folder."""
    fetch_recipes(settings, [])
    home, record = home_of(settings), record_of(settings)
    assert (record["model_id"], record["revision"]) == ("someone/small", COMMIT)
    found = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    assert found == {*record["files"], "fetched.json"} > {"model_index.json", UNET, "tokenizer/tokenizer.json"}
    assert not any(path.is_symlink() for path in home.rglob("*"))
    assert record["files"][UNET]["bytes"] == (home / UNET).stat().st_size


def test_a_model_of_another_engine_is_fetched_without_pickles_and_loaded_from_its_folder(hub_of, tmp_path, monkeypatch):
    """In transformers' format. The other files of a repository may be gigabytes, or run programs."""
    repository = tmp_path / "repository"
    save_instance_network("rf_detr", repository)
    (repository / "pytorch_model.bin").write_bytes(b"a pickle")
    file = write_recipe(tmp_path, "small", "someone/small", engine="instances")
    settings = Settings(recipes=str(file), weights=tmp_path / "weights", device="cpu", threads=1)
    with hub_of(repository):
        fetch_recipes(settings, [])
    names = {path.name for path in home_of(settings).iterdir()}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json", "fetched.json"}
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", NOBODY)
    card = load_engine(sources_of(settings)[0], lambda _: None).card
    assert (card.model, card.revision, card.engine) == ("small", COMMIT, "instances")


def test_a_second_fetch_asks_the_hub_nothing(hub, settings):
    """A Job runs at each deployment."""
    fetch_recipes(settings, [])
    before = {path: path.stat().st_mtime_ns for path in home_of(settings).rglob("*")}
    hub.down = True
    fetch_recipes(settings, [])
    assert {path: path.stat().st_mtime_ns for path in home_of(settings).rglob("*")} == before


def test_a_replica_loads_what_was_fetched_without_a_network_and_without_hashing_it(hub, settings, monkeypatch):
    """No pod downloads, and gigabytes are read once. Its fingerprint is that of a replica that downloads."""
    own = settings.model_copy(update={"weights": None})
    downloaded = load_model(sources_of(own)[0]).answer
    fetch_recipes(settings, [])
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", NOBODY)
    opened: list[str] = []

    def count(path: object, mode: str = "r", *arguments: object, **more: object) -> object:
        if "b" in mode:
            opened.append(str(path))
        return plain_open(path, mode, *arguments, **more)

    plain_open = io.open
    for module in (builtins, io):
        monkeypatch.setattr(module, "open", count)
    assert load_model(sources_of(settings)[0]).answer == downloaded
    assert downloaded.card.revision == COMMIT
    assert any(path.endswith("fetched.json") for path in opened)
    assert [path for path in opened if path.endswith(".safetensors")] == [], "safetensors opens them itself, by mmap"


def test_a_killed_fetch_is_continued_and_what_was_damaged_is_fetched_again(settings, models, hub_of, tmp_path, capsys):
    """A Job is evicted, and the disk has lost a bit: only this file and the rest are requested."""
    folder = Path(shutil.copytree(models["plain"], tmp_path / "large"))
    (folder / UNET).write_bytes(os.urandom(LARGE_BYTES))
    blobs = home_of(settings) / ".download" / "models--someone--small" / "blobs"
    command = [sys.executable, "-m", "momalisa_model.command", "fetch", settings.recipes]
    with hub_of(folder) as hub:
        environment = {**os.environ, "MOMALISA_WEIGHTS": str(settings.weights), "HF_ENDPOINT": hub.url}
        hub.limit, hub.stall = LARGE_BYTES * 3 // 4, True
        killed = start(command, env=environment, stderr=subprocess.DEVNULL)
        begun = blobs / f"{sha256_of(folder / UNET)}.incomplete"
        try:
            wait_until(lambda: begun.exists() and begun.stat().st_size > 10_000_000, 60)
        finally:
            killed.kill()
            killed.wait()
        damage(blobs / sha256_of(folder / VAE))
        hub.limit, hub.stall = None, False
        hub.ranges.clear()
        fetch_recipes(settings, [])
    told = capsys.readouterr().out
    assert "damaged file removed" in told
    assert "downloading" in told, "the progress"
    requested = dict(hub.ranges)
    assert requested.keys() == {VAE, UNET}
    assert requested[VAE] is None
    assert int(requested[UNET].removeprefix("bytes=").rstrip("-")) > 10_000_000
    for name, fetched in record_of(settings)["files"].items():
        assert fetched["sha256"] == sha256_of(folder / name) == sha256_of(home_of(settings) / name)


def test_a_small_file_that_arrives_damaged_is_refused(hub, settings):
    """The hub's client does not compare hashes. Another word in a tokenizer would change all pictures."""
    hub.damaged = "tokenizer/tokenizer_config.json"
    with pytest.raises(DownloadFailed, match=r"tokenizer_config\.json is not what the hub has"):
        fetch_recipes(settings, [])
    assert not (home_of(settings) / "fetched.json").exists()
    hub.damaged = ""
    fetch_recipes(settings, [])
    assert sources_of(settings)[0].require_fetched() is None


def test_a_fetch_that_was_killed_while_it_moved_files_requests_none_of_them_again(hub, settings):
    """The record is in the cache then, some files are in their place, and others are not."""
    fetch_recipes(settings, [])
    before, home = record_of(settings), home_of(settings)
    repository = home / ".download" / "models--someone--small"
    (repository / "blobs").mkdir(parents=True)
    (home / "fetched.json").rename(repository / "moved.json")
    (home / VAE).rename(repository / "blobs" / before["files"][VAE]["sha256"])
    hub.ranges.clear()
    fetch_recipes(settings, [])
    assert (record_of(settings), hub.ranges) == (before, [])


@pytest.mark.parametrize("fault", ["cut", "damaged", "missing"])
def test_what_has_changed_since_is_noticed_and_fetched_again(hub, settings, models, fault):
    """A size tells of a file that was cut; only its hash tells of another byte. The other files stay."""
    fetch_recipes(settings, [])
    before, unet = record_of(settings), home_of(settings) / UNET
    {"cut": lambda: os.truncate(unet, 100), "damaged": lambda: damage(unet), "missing": unet.unlink}[fault]()
    hub.push("someone/small", models["plain"], NEXT, "main")  # the branch has moved on
    hub.ranges.clear()
    if fault != "damaged":
        with pytest.raises(DownloadFailed, match="fetch` again"):
            load_model(sources_of(settings)[0])
    fetch_recipes(settings, [], verify=fault == "damaged")
    assert [file for file, _ in hub.ranges] == [UNET]
    assert record_of(settings) == before
    load_model(sources_of(settings)[0])


def test_a_branch_stays_until_it_is_updated(hub, settings, models, tmp_path):
    """All replicas have one revision, whenever they start. An update requests only what has changed."""
    fetch_recipes(settings, [])
    changed = tmp_path / "changed"
    shutil.copytree(models["plain"], changed)
    config = changed / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"beta_end": 0.013}))
    (changed / "unet" / "extra.json").write_text("{}")
    hub.push("someone/small", changed, NEXT, "main")
    fetch_recipes(settings, [])
    assert record_of(settings)["revision"] == COMMIT
    hub.ranges.clear()
    fetch_recipes(settings, [], update=True)
    assert (record_of(settings)["revision"], hub.ranges) == (NEXT, [])
    assert load_model(sources_of(settings)[0]).card.revision == NEXT
    assert (home_of(settings) / "unet" / "extra.json").is_file()
    hub.push("someone/small", models["plain"], COMMIT, "main")
    fetch_recipes(settings, [], update=True)
    assert not (home_of(settings) / "unet" / "extra.json").exists(), "files of another commit do not stay"


def test_another_revision_in_the_recipe_needs_another_fetch(hub, settings, models, tmp_path):
    """The recipe was updated, but the Job has not run yet."""
    fetch_recipes(settings, [])
    for wanted, fits in ((COMMIT, True), ("main", True), (None, True), (NEXT, False), ("v2", False)):
        write_recipe(tmp_path, "small", "someone/small", revision=wanted)
        [source] = sources_of(settings)
        if fits:
            source.require_fetched()
        else:
            with pytest.raises(DownloadFailed, match=rf"lacks someone/small at {wanted}. Run .* fetch small`"):
                source.require_fetched()


def test_a_replica_waits_for_a_fetch(hub, settings, monkeypatch):
    """Both start at the same time, as with `docker compose up`."""
    monkeypatch.setattr("momalisa_model.replica.PAUSES_S", (0.1,))
    with Server(settings, ready=False) as server:
        wait_until(lambda: "MOMALISA_WEIGHTS lacks" in server.get("/readyz").text)
        assert hub.downloaded == []
        fetch_recipes(settings, [])
        wait_until(lambda: server.get("/readyz").status_code == 200)


def test_the_precision_of_the_replicas_decides_what_is_fetched(hub, settings, tmp_path, models):
    """A Job on a CPU fetches for GPUs: half of the bytes, where the variant fp16 exists."""
    both = tmp_path / "both"
    pipeline = StableDiffusionPipeline.from_pretrained(models["plain"])
    pipeline.save_pretrained(both, safe_serialization=True)
    pipeline.to(dtype=torch.float16).save_pretrained(both, variant="fp16", safe_serialization=True)
    hub.push("someone/small", both, NEXT, "main")
    for gpu in ("l4", None):
        resources = {"gpu": gpu, "memory_gib": 1, "cpus": 1}
        write_recipe(tmp_path, "small", "someone/small", resources=resources)
        fetch_recipes(settings.model_copy(update={"weights": tmp_path / str(gpu)}), [])
        files = json.loads((tmp_path / str(gpu) / "small" / "fetched.json").read_text())["files"]
        assert (UNET in files) == (gpu is None)
        assert (UNET.replace(".safe", ".fp16.safe") in files) == (gpu is not None)


def test_adapters_and_another_vae_are_fetched_too(hub_of, settings, tmp_path, monkeypatch):
    """Their revisions are part of the model's: the card is that of a replica that downloads everything."""
    small_family("sd").save_pretrained(tmp_path / "sd", safe_serialization=True)
    for seed, name in enumerate("abc"):
        save_lora(tmp_path / "loras" / f"{name}.safetensors", "sd", ["unet"], seed)
    save_vae(tmp_path / "vaes" / "fine", tiny=False)
    added = {"vae": "someone/vaes/fine", "adapters": "someone/loras/a.safetensors:0.5,someone/loras/b.safetensors"}
    write_recipe(tmp_path, "small", "someone/small", **added)
    [source] = sources_of(settings)
    with hub_of(tmp_path / "sd", **{"someone/loras": tmp_path / "loras", "someone/vaes": tmp_path / "vaes"}) as hub:
        downloaded = load_model(sources_of(settings.model_copy(update={"weights": None}))[0]).answer
        with pytest.raises(DownloadFailed, match="MOMALISA_WEIGHTS lacks someone/vaes at main"):
            source.require_fetched()
        fetch_recipes(settings, [])
        loras = home_of(settings) / "additions" / "someone--loras"
        assert {path.name for path in loras.iterdir()} == {"a.safetensors", "b.safetensors", "fetched.json"}
        damage(loras / "b.safetensors")
        hub.ranges.clear()
        fetch_recipes(settings, [], verify=True)
        assert [name.rpartition("/")[2] for name, _ in hub.ranges] == ["b.safetensors"]
    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "ENDPOINT", NOBODY)
        fetch_recipes(settings, [])
        assert load_model(source).answer == downloaded
    assert [adapter.weight for adapter in downloaded.card.adapters] == [0.5, 1.0]
    write_recipe(tmp_path, "small", "someone/small", **added | {"adapters": "someone/loras/c.safetensors"})
    with pytest.raises(DownloadFailed, match="MOMALISA_WEIGHTS lacks someone/loras at main"):
        sources_of(settings)[0].require_fetched()


def test_a_gated_model_says_what_to_do(hub, settings):
    """The operator reads the log of a Job."""
    hub.gated.add("someone/small")
    with pytest.raises(DownloadFailed, match="Accept it on the model's page on the hub, and set HF_TOKEN"):
        fetch_recipes(settings, [])


def test_a_full_disk_ends_the_command_with_a_sentence(settings, models, hub_of, tmp_path):
    """A real file system of 1 MB, in a mount namespace of its own."""
    folder = Path(shutil.copytree(models["plain"], tmp_path / "large"))
    (folder / UNET).write_bytes(os.urandom(LARGE_BYTES))
    assert settings.weights
    settings.weights.mkdir()
    fetch = f"{sys.executable} -m momalisa_model.command fetch {settings.recipes}"
    namespace = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--mount"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mount namespaces")
    with hub_of(folder) as hub:
        ended = subprocess.run(
            [*namespace, "sh", "-c", f"mount -t tmpfs -o size=1m none {settings.weights} && exec {fetch}"],
            env={**os.environ, "MOMALISA_WEIGHTS": str(settings.weights), "HF_ENDPOINT": hub.url},
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert "momalisa-model: The disk of MOMALISA_WEIGHTS is full: someone/small needs 32." in ended.stderr
    assert "set MOMALISA_WEIGHTS to a folder on a larger disk" in ended.stderr
    assert hub.ranges == []


def test_wrong_settings_of_a_fetch_are_said(settings, tmp_path):
    """Before anything is downloaded. The embedded model needs no fetch."""
    with pytest.raises(UnsuitableModel, match="Set MOMALISA_WEIGHTS"):
        fetch_recipes(settings.model_copy(update={"weights": None}), [])
    with pytest.raises(UnsuitableModel, match="Name a model recipe"):
        fetch_recipes(settings.model_copy(update={"recipes": ""}), [])
    fetch_recipes(settings, ["atelier"])
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("order", [["--update", "--verify", "atelier"], ["atelier", "--update", "--verify"]])
def test_options_of_a_fetch_stand_before_or_after_the_recipes(settings, monkeypatch, order):
    """Both orders are usual."""
    chosen = []
    monkeypatch.setattr(arguments, "_run", lambda parsed, _: chosen.append(parsed))
    command.main(["fetch", *order])
    [one] = chosen
    assert (one.recipes, one.update, one.verify) == (["atelier"], True, True)
