"""The app as a process: its log, its look at the database before anything listens, and how it stops."""

import asyncio
import logging
import sys
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


def configure_log(settings: Settings) -> None:
    """Write one log to standard output, as JSON lines or as text: what this process logs, and libraries' warnings."""
    terminal = sys.stdout.isatty()
    for_people = settings.log_format == "console" or (settings.log_format == "auto" and terminal)
    console, lines = structlog.dev.ConsoleRenderer(colors=terminal), structlog.processors.JSONRenderer()
    renderer: structlog.typing.Processor = console if for_people else lines
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


async def _look_at_database(url: str) -> None:
    """Before anything listens: what is wrong here is said in a sentence, not from within a server."""
    async with opened(url):
        pass


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C; open answers have a few seconds to end. Raises SchemaOld."""
    configure_log(settings)
    asyncio.run(_look_at_database(settings.database_url))
    _Server(configured(create_app(settings), settings)).run()


def configured(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How an app is served: where it listens, whom it believes, how it stops."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=SHUTDOWN_S,
        server_header=False,
        forwarded_allow_ips=settings.trusted_proxies,
    )


class _Server(uvicorn.Server):
    """A server that lets its watchers go and gives its shards back as soon as it is told to stop."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        app = self.config.app
        assert isinstance(app, FastAPI)
        soon = asyncio.get_running_loop().call_soon_threadsafe
        if live := part(app, LiveUpdates):
            soon(live.end)
        if worker := part(app, Worker):
            soon(worker.stop)
        super().handle_exit(sig, frame)
