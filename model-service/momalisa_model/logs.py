"""The log of this process: structlog for its own lines and for those of uvicorn, on stderr."""

from __future__ import annotations

import logging
import sys

import diffusers
import structlog
import transformers


def configure_logs(log_format: str) -> None:
    """Set up the log of the whole process; only the command calls this.

    log_format: console, json, or auto: console on a terminal, else json.
    """
    terminal = sys.stderr.isatty()
    readable = log_format == "console" or (log_format == "auto" and terminal)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    # Without the values of variables: prompts are private.
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=structlog.dev.plain_traceback)]
        if readable
        else [structlog.processors.ExceptionRenderer(tracebacks), structlog.processors.JSONRenderer()]
    )
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove_meta, *last]))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    for chatty in ("httpx", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # The libraries' warnings repeat what they cut from prompts, which are private. The others are about choices of the
    # weights' authors, and about what this service checks itself.
    for library in ("diffusers", "transformers", "huggingface_hub", "peft"):
        logging.getLogger(library).setLevel(logging.ERROR)
    # Progress bars would break up the lines.
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
