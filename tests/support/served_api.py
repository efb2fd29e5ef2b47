"""An API with a fake fleet, behind a real server in a thread of the test's process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from momalisa_api.app import create_app
from momalisa_api.server import uvicorn_config
from momalisa_api.settings import Settings
from tests.support.factories import CARD, FakeFleet, write_card
from tests.support.processes import free_port, wait_until


@contextmanager
def served_api(folder: Path, fleet: FakeFleet, card: dict[str, Any] = CARD, **changes: Any) -> Iterator[str]:
    """The URL of an API that keeps its data in a folder, served as by `momalisa serve`. changes: of its settings."""
    options: dict[str, Any] = {
        "bucket": str(folder / "bucket"),
        "database_url": f"sqlite:///{folder}/catalogue.sqlite",
        "live_poll_s": 0.02,
        "port": free_port(),
        **changes,
    }
    settings = Settings(model_card=write_card(folder, card), replicas=fleet.addresses, **options)
    config = uvicorn_config(create_app(settings, fleet.client), settings)
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        yield f"http://127.0.0.1:{settings.port}"
    finally:
        server.should_exit = True
        thread.join(20)
