"""`momalisa serve` as a real process."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.factories import write_card
from tests.support.processes import SCRIPTS, free_port, start


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its URL. No replica runs."""
    port = free_port()
    environment = {
        **os.environ,
        "MOMALISA_MODEL_CARD": str(write_card(folder)),
        "MOMALISA_BUCKET": str(folder / "bucket"),
        "MOMALISA_DATABASE_URL": f"sqlite:///{folder}/catalogue.sqlite",
        "MOMALISA_REPLICAS": "http://127.0.0.1:9",
        "MOMALISA_PORT": str(port),
        **settings,
    }
    process = start(
        [str(SCRIPTS / "momalisa"), "serve"], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def answers(url: str) -> bool:
    try:
        return bool(httpx.get(url + "/readyz").is_success)
    except httpx.TransportError:
        return False
