"""Downloads from a hub that breaks off, refuses, or is away, and disks that are full: tried over real HTTP."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest

from momalisa_model.hub import fetch
from momalisa_model.problems import DownloadFailed
from momalisa_model.weights import load
from tests.support.hub import COMMIT, Hub, serving
from tests.support.model_server import Server, wait_until
from tests.support.processes import start

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
INDEX = "model_index.json"
FETCH = f"from momalisa_model.hub import fetch; fetch('someone/large', None, ['{INDEX}', '{WEIGHTS}'], print)"
LARGE_BYTES = 32_000_000
OTHER = "89abcdef0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one large file."""
    folder = tmp_path_factory.mktemp("large")
    (folder / INDEX).write_text("{}")
    (folder / "unet").mkdir()
    (folder / WEIGHTS).write_bytes(os.urandom(LARGE_BYTES))
    return folder


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def environment(tmp_path: Path) -> Callable[[Hub], dict[str, str]]:
    """The environment of another process that downloads from a hub."""
    return lambda hub: {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}


def incomplete(folder: Path) -> int:
    """Bytes of all incomplete files of a cache."""
    return sum(path.stat().st_size for path in folder.rglob("*.incomplete"))


def test_a_killed_download_is_continued_by_the_next_start(large, tmp_path, environment):
    """A pod is evicted at 6 of 7 gigabytes. Only the rest is requested, although the hub offers Xet too."""
    with serving({"someone/large": large}) as hub:
        hub.limit, hub.stall = LARGE_BYTES * 3 // 4, True
        killed = start([sys.executable, "-c", FETCH], env=environment(hub), stdout=subprocess.DEVNULL)
        wait_until(lambda: incomplete(tmp_path) >= LARGE_BYTES // 2)
        killed.kill()
        killed.wait()
        hub.limit = None
        kept = incomplete(tmp_path)
        subprocess.run([sys.executable, "-c", FETCH], env=environment(hub), check=True, stdout=subprocess.DEVNULL)
    assert hub.ranges == [(WEIGHTS, None), (WEIGHTS, f"bytes={kept}-")]
    [downloaded] = (tmp_path / "home").rglob(WEIGHTS)
    assert hashlib.sha256(downloaded.read_bytes()).digest() == hashlib.sha256((large / WEIGHTS).read_bytes()).digest()
    assert not incomplete(tmp_path)


def test_a_download_that_breaks_off_is_continued_by_the_next_attempt(models, hub_of, settings_for, monkeypatch):
    """The sentence says that what is there is kept, and the whole model loads in the end."""
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    with hub_of(models["plain"]) as hub:
        hub.limit = 5000
        with pytest.raises(DownloadFailed, match=r"broke off.*is kept"):
            load(settings_for("someone/small"))
        hub.limit, hub.down = None, False
        assert load(settings_for("someone/small")).revision == COMMIT
    broken = hub.ranges[0][0]
    assert hub.ranges.count((broken, "bytes=5000-")) == 1
    assert [wanted for path, wanted in hub.ranges if path != broken] == [None, None]


def test_a_damaged_rest_of_a_download_is_noticed_and_removed(large, hub_of, tmp_path, reports):
    """Its size alone would not tell: two starts wrote to it where locks do not work, or the machine crashed."""
    with hub_of(large) as hub:
        blob = hashlib.sha256((large / WEIGHTS).read_bytes()).hexdigest()
        left = tmp_path / "cache" / "models--someone--small" / "blobs" / f"{blob}.incomplete"
        left.parent.mkdir(parents=True)
        left.write_bytes(b"0" * 1000)
        with pytest.raises(DownloadFailed):
            fetch("someone/small", None, [INDEX, WEIGHTS], reports.append)
        folder = fetch("someone/small", None, [INDEX, WEIGHTS], reports.append)
    assert [wanted for _, wanted in hub.ranges] == ["bytes=1000-", None]
    assert (folder / WEIGHTS).read_bytes() == (large / WEIGHTS).read_bytes()


def test_two_replicas_download_a_model_once(large, hub_of, reports):
    """`make up` starts two at the same time, with one cache."""
    with hub_of(large) as hub:
        fetching = [
            threading.Thread(target=fetch, args=("someone/small", None, [INDEX, WEIGHTS], reports.append))
            for _ in range(2)
        ]
        for thread in fetching:
            thread.start()
        for thread in fetching:
            thread.join()
    assert hub.ranges == [(WEIGHTS, None)]


@pytest.mark.parametrize("token", [None, "hf_of_somebody_else"])
def test_a_gated_model_says_to_accept_its_licence(models, hub_of, settings_for, monkeypatch, token):
    """Without a token the hub answers 401, and 403 with that of an account that has not accepted."""
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with hub_of(models["plain"]) as hub:
        hub.gated = {"someone/small"}
        with pytest.raises(DownloadFailed, match=r"licence of someone/small must be accepted.*HF_TOKEN"):
            load(settings_for("someone/small"))
        monkeypatch.setenv("HF_TOKEN", hub.token)
        assert load(settings_for("someone/small")).revision == COMMIT


def test_an_unknown_model_and_an_unknown_revision_have_sentences_of_their_own(models, hub_of, settings_for):
    """They are typing errors of two settings."""
    with hub_of(models["plain"]):
        with pytest.raises(DownloadFailed, match="The hub has no model someone/smal, or it is private"):
            load(settings_for("someone/smal"))
        with pytest.raises(DownloadFailed, match=r"someone/small has no revision v9\. Use .* in MODEL_REVISION"):
            load(settings_for("someone/small", model_revision="v9"))


def test_a_hub_that_cannot_be_reached_is_said(models, hub_of, settings_for):
    """A firewall, or a wrong HF_ENDPOINT."""
    with hub_of(models["plain"]):
        huggingface_hub.constants.ENDPOINT = "http://127.0.0.1:1"
        with pytest.raises(DownloadFailed, match=r"someone/small at main could not .* cannot be reached"):
            load(settings_for("someone/small"))


def test_a_disk_that_is_too_small_is_refused_before_the_download(large, tmp_path, environment):
    """A real file system of 1 MB, in a mount namespace of its own. Nothing of the large file is requested."""
    (tmp_path / "home").mkdir()
    command = f'mount -t tmpfs -o size=1m none {tmp_path}/home && exec {sys.executable} -c "{FETCH}"'
    namespace = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--mount"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mount namespaces")
    with serving({"someone/large": large}) as hub:
        ended = subprocess.run(
            [*namespace, "sh", "-c", command], env=environment(hub), capture_output=True, text=True, check=False
        )
    assert "someone/large needs 32.0 MB more, and 1." in ended.stderr
    assert "set HF_HOME to a folder on a larger disk" in ended.stderr
    assert f"No space left on device: '{tmp_path}/home/hub'" in ended.stderr, "the log says where"
    assert hub.ranges == []


def test_a_quota_that_ends_a_download_is_said(large, tmp_path, environment):
    """The free space does not tell. The system refuses to let the file grow beyond 12 MB."""
    command = f'ulimit -f {12_000_000 // 512}; exec {sys.executable} -c "{FETCH}"'
    with serving({"someone/large": large}) as hub:
        ended = subprocess.run(["sh", "-c", command], env=environment(hub), capture_output=True, text=True, check=False)
    assert "The disk of the hub's cache is full: someone/large needs 32.0 MB more" in ended.stderr
    assert incomplete(tmp_path) > 10_000_000


def test_a_cache_that_cannot_be_made_is_said(models, hub_of, settings_for, tmp_path):
    """HF_HOME is in a file, for example. It is not the hub that cannot be reached."""
    (tmp_path / "file").touch()
    with hub_of(models["plain"]):
        huggingface_hub.constants.HF_HUB_CACHE = str(tmp_path / "file" / "hub")
        with pytest.raises(DownloadFailed, match=r"hub's cache cannot be written \(Not a directory\)\. Set HF_HOME"):
            load(settings_for("someone/small"))


def test_a_pinned_revision_stays_when_main_moves_on(models, hub_of, settings_for):
    """Between two starts somebody pushes other weights. A branch is followed; a tag or a commit is not."""
    with hub_of(models["plain"]) as hub:
        hub.push("someone/small", models["plain"], COMMIT, "main", "v1", "next/try")
        assert load(settings_for("someone/small", model_revision="v1")).revision == COMMIT
        hub.push("someone/small", models["distilled"], OTHER, "main", "next/try")
        loaded = {
            name: load(settings_for("someone/small", model_revision=name)) for name in (None, "next/try", "v1", COMMIT)
        }
    assert {name: weights.revision for name, weights in loaded.items()} == {
        None: OTHER,
        "next/try": OTHER,
        "v1": COMMIT,
        COMMIT: COMMIT,
    }
    assert [loaded[name].vae_scale_factor for name in (None, "v1")] == [8, 2], "each has its own files"


def test_a_replica_tries_again_by_itself(models, hub_of, settings_for):
    """Under Compose and `make up` nobody restarts it, and it would not be ready for ever."""
    with hub_of(models["plain"]) as hub:
        hub.down = True
        with Server(settings_for("someone/small"), ready=False) as server:
            wait_until(lambda: "The next attempt is in 1 s." in server.get("/readyz").json()["detail"])
            hub.down = False
            wait_until(lambda: server.get("/readyz").status_code == 200)


def test_readyz_says_how_much_is_downloaded(models, hub_of, settings_for):
    """Seven gigabytes take minutes, and an operator wants to know whether they come."""
    with hub_of(models["plain"]) as hub:
        hub.limit, hub.stall = 5000, True
        with Server(settings_for("someone/small"), ready=False) as server:
            wait_until(lambda: "someone/small is being downloaded: 0.0 MB of 0.4 MB." in server.get("/readyz").text)
            hub.limit, hub.stall = None, False
            wait_until(lambda: server.get("/readyz").status_code == 200)
