"""uvicorn around an app, stopped so that every answer ends in words. Knows nothing of what the app answers."""

from __future__ import annotations

import contextlib
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from momalisa_model.device_queue import DeviceQueue
from momalisa_model.settings import Settings


class GracefulServer(uvicorn.Server):
    """uvicorn, which waits for answers to end; this one also sees to it that they do."""

    def __init__(self, config: uvicorn.Config, queue: DeviceQueue, grace_s: int) -> None:
        super().__init__(config)
        self._queue = queue
        self._grace_s = grace_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._queue.close(self._grace_s)
        super().handle_exit(sig, frame)


def run(app: FastAPI, queue: DeviceQueue, settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C; then what is on the device and in line has the grace to finish."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        # Longer than clients keep idle connections, so that none is closed under a request.
        timeout_keep_alive=75,
        # For answers that nobody reads: the queue has closed by then.
        timeout_graceful_shutdown=settings.shutdown_grace_s + 5,
    )
    structlog.get_logger().info("starting", host=settings.host, port=settings.port)
    with contextlib.suppress(KeyboardInterrupt):
        GracefulServer(config, queue, settings.shutdown_grace_s).run()
