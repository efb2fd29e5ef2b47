"""Runs the app under uvicorn: log format, a check of the database before the start, a graceful stop."""

import asyncio
import gc
import logging
import resource
import sys
from contextlib import suppress
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from momalisa_api.app import create_app
from momalisa_api.settings import Settings
from momalisa_api.store.schema import opened
from momalisa_api.web.live import LiveUpdates
from momalisa_api.web.routes.deps import part
from momalisa_api.work.worker import Worker

SHUTDOWN_S = 3
OPEN_FILES_OF_SERVER = 65_536
# New objects before a collection; young collections before an older generation's.
GC_THRESHOLDS = (50_000, 20, 20)


def configure_log(settings: Settings) -> None:
    """Write one log to standard output, as JSON lines or as text: what this process logs, and libraries' warnings."""
    terminal = sys.stdout.isatty()
    as_text = settings.log_format == "console" or (settings.log_format == "auto" and terminal)
    console, lines = structlog.dev.ConsoleRenderer(colors=terminal), structlog.processors.JSONRenderer()
    renderer: structlog.typing.Processor = console if as_text else lines
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level.upper()]),
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


async def _check_database(url: str) -> None:
    """Before the server starts, so that a wrong database is one sentence, not a traceback of uvicorn."""
    async with opened(url):
        pass


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C; open responses have a few seconds to finish. Raises SchemaOld."""
    configure_log(settings)
    allow_many_connections()
    asyncio.run(_check_database(settings.database_url))
    server = _Server(uvicorn_config(create_app(settings), settings))
    collect_garbage_rarely()
    server.run()


def allow_many_connections() -> None:
    """Raise this process's limit on open files, which connections count as, as far as the system allows.

    Many systems begin with 1,024, which a thousand visitors reach: further ones could not connect.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_OF_SERVER if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_OF_SERVER)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # macOS has a lower limit for the whole system.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def collect_garbage_rarely() -> None:
    """Keep the collector from stopping every request: a full collection visits all objects of a thousand streams.

    Nearly all garbage is freed without it. What exists now stays until the end, and is never visited again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Address and shutdown of the server."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=SHUTDOWN_S,
        server_header=False,
        # The app does it: it needs the address of the connection, too.
        proxy_headers=False,
    )


class _Server(uvicorn.Server):
    """A server that ends its event streams and returns its shards as soon as it receives a signal to stop."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        app = self.config.app
        assert isinstance(app, FastAPI)
        soon = asyncio.get_running_loop().call_soon_threadsafe
        if live := part(app, LiveUpdates):
            soon(live.end)
        if worker := part(app, Worker):
            soon(worker.stop)
        super().handle_exit(sig, frame)
