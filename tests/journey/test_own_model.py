"""The README's "Your own model", from a folder of weights to a film in the bucket."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.support.deployment import SCRIPTS
from tests.support.processes import start
from tests.support.small_families import small_family

SMALL = {"width": 64, "height": 64, "min_size": 32, "max_size": 128, "num_inference_steps": 2}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ["sdxl", "klein", "z-image"])
def test_a_folder_of_weights_becomes_a_card_and_a_walk(name: str, tmp_path: Path) -> None:
    """Another process loads what the card promises, and the whole path from request to film works with it."""
    small_family(name).save_pretrained(tmp_path / name, safe_serialization=True)
    partial, card, out = tmp_path / "partial.json", tmp_path / "card.json", tmp_path / "walk.gif"
    partial.write_text(json.dumps(SMALL))
    environment = {**os.environ, "MODEL_ID": str(tmp_path / name), "MOMALISA_DEVICE": "cpu", "MOMALISA_URL": ""}
    environment |= {"MOMALISA_BUCKET": str(tmp_path / "bucket"), "MOMALISA_THREADS": "1"}
    environment |= {"MOMALISA_DATABASE_URL": f"sqlite:///{tmp_path}/catalogue.sqlite"}
    environment.pop("MOMALISA_MODEL_ID", None)
    printed = subprocess.run(
        [str(SCRIPTS / "momalisa-model"), "card"],
        env=environment | {"MOMALISA_MODEL_CARD": str(partial)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert printed.returncode == 0, printed.stderr
    card.write_text(printed.stdout)
    assert json.loads(printed.stdout)["model"] == name
    process = start(
        [str(SCRIPTS / "momalisa"), "walk", "--local", "--frames", "4", "--out", str(out), "a red sun", "blue waves"],
        env=environment | {"MOMALISA_MODEL_CARD": str(card)},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    with Image.open(out) as gif:
        assert gif.size == (64, 64)
        assert gif.n_frames == 6
