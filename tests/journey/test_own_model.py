"""The README's "Your own model", word by word: from weights in a folder or on a hub to a walk in the gallery."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from PIL import Image

from tests.support.client import Client
from tests.support.gallery import head_of
from tests.support.hub import serving
from tests.support.processes import REPOSITORY, free_port, start, wait_until
from tests.support.small_families import small_family

# Without a sample_size, a derived card is for 1024 pixels.
SMALL = {"width": 64, "height": 64, "min_size": 32, "max_size": 128, "num_inference_steps": 2}


def commands_for(model: str) -> str:
    """The lines of the README for this model in place of the one there."""
    section = (REPOSITORY / "README.md").read_text().partition("## Your own model\n")[2].partition("\n## ")[0]
    [lines] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert lines.count("stabilityai/sd-turbo") == 1
    return "set -e\n" + lines.replace("stabilityai/sd-turbo", model)


@contextmanager
def own_model(model: str, folder: Path, **variables: str) -> Iterator[Client]:
    """A deployment that these lines have started, in a folder that links to the files of this checkout."""
    for path in [*REPOSITORY.iterdir(), Path(sys.prefix)]:
        link = folder / (".venv" if path == Path(sys.prefix) else path.name)
        if not link.exists():
            link.symlink_to(path)
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MOMALISA_")}
    environment |= {"MOMALISA_PORT": str(port), "MOMALISA_DEVICE": "cpu", "MOMALISA_BUCKET": str(folder / "bucket")}
    environment |= {"MOMALISA_DATABASE_URL": f"sqlite:///{folder}/catalogue.sqlite"}
    # Both are made before the tests. make would install the packages again, under the paths of the links.
    environment |= {"MAKEFLAGS": "-- READY= GALLERY=", **variables}
    log = folder / "log"
    with log.open("wb") as output:
        process = start(
            ["bash", "-c", commands_for(model)],
            env=environment,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    client = Client(f"http://127.0.0.1:{port}")
    try:
        wait_until(lambda: client.awake() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield client
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        process.wait(30)


def make_a_walk(client: Client, model: str) -> None:
    """A walk of this model is in the gallery: on the wall, with a page of its own and with a film."""
    walk = client.ended(client.request_walk(start="a red sun", end="blue waves", frames=4, steps=2, spacing="uniform"))
    assert walk["state"] == "done", walk
    assert walk["spec"]["model"] == model
    assert walk["id"] in [listed["id"] for listed in json.loads(client.fetch("/api/v1/walks"))["walks"]]
    page = head_of(client.fetch(f"/walks/{walk['id']}").decode())
    assert page.title.startswith("a red sun → blue waves")
    assert f"in the latent space of {model}." in page.meta["description"]
    with Image.open(io.BytesIO(client.fetch(walk["films"]["walk.gif"]))) as gif:
        assert gif.n_frames == 6


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_folder_of_weights_becomes_a_walk_in_the_gallery(tmp_path: Path) -> None:
    """As the README says it, with SDXL. Other processes load what the card promises."""
    small_family("sdxl").save_pretrained(tmp_path / "my-sdxl", safe_serialization=True)
    with own_model(str(tmp_path / "my-sdxl"), tmp_path) as client:
        make_a_walk(client, "my-sdxl")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_model_of_the_hub_becomes_a_walk_in_the_gallery(tmp_path: Path) -> None:
    """The same with a download, and with a file of fields that replace derived ones. Two replicas download it once."""
    small_family("klein").save_pretrained(tmp_path / "klein", safe_serialization=True)
    (tmp_path / "partial.json").write_text(json.dumps(SMALL))
    with serving({"someone/klein": tmp_path / "klein"}) as hub:
        where = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        partial = {"MOMALISA_MODEL_CARD": str(tmp_path / "partial.json")}
        with own_model("someone/klein", tmp_path, **where, **partial) as client:
            make_a_walk(client, "someone/klein")
    weights = [path for path in hub.downloaded if path.endswith(".safetensors")]
    assert len(weights) == len(set(weights)) == 3
