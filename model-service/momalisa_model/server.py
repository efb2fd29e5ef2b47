"""uvicorn around an app, with a shutdown that finishes every response. Independent of what the app does."""

from __future__ import annotations

import contextlib
import sys
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from momalisa_model.device_queue import DeviceQueue
from momalisa_model.settings import Settings


class GracefulServer(uvicorn.Server):
    """uvicorn waits for running responses at shutdown; this one also ends their work on the device in time.

    It shuts down by itself when the device has failed.
    """

    def __init__(self, config: uvicorn.Config, queue: DeviceQueue, grace_s: int) -> None:
        super().__init__(config)
        self._queue = queue
        self._grace_s = grace_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Close the device queue after the grace period, and begin uvicorn's own shutdown."""
        self._queue.close(self._grace_s)
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Whether to shut down. uvicorn asks ten times a second."""
        return await super().on_tick(counter) or self._queue.failed


def run(app: FastAPI, queue: DeviceQueue, settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C; then shards on the device and in the queue get shutdown_grace_s to finish.

    Exits with status 1 if the device has failed, so that the process is started again.
    """
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        # Longer than clients keep idle connections, so that none is closed while a request arrives.
        timeout_keep_alive=75,
        # For responses that are not read: the device queue is closed by then.
        timeout_graceful_shutdown=settings.shutdown_grace_s + 5,
    )
    structlog.get_logger().info("starting", host=settings.host, port=settings.port)
    with contextlib.suppress(KeyboardInterrupt):
        GracefulServer(config, queue, settings.shutdown_grace_s).run()
    if queue.failed:
        sys.exit("momalisa-model: The device has failed; the log has the details. Start this process again.")
