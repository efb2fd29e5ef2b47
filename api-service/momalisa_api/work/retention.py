"""Deletes what is kept for a limited time: uploads, deleted walks, and what the settings limit."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog

from momalisa_api.backoff import repeat_forever
from momalisa_api.problems import Unavailable

RETENTION_S: Final = 60.0
LONGEST_RETENTION_PAUSE_S: Final = 600.0
# Deletes a few of what is due; returns how many, 0 if nothing is left.
Batch = Callable[[], Awaitable[int]]

log = structlog.get_logger()


class Retention:
    """A periodic task of workers. Several at once do no harm."""

    def __init__(self, batches: Mapping[str, Batch], every_s: float = RETENTION_S) -> None:
        """batches: what is deleted, in this order, by the events that the log tells of it."""
        self._batches = batches
        self._every_s = every_s

    async def run(self) -> None:
        """Delete what is due until cancelled."""
        await repeat_forever(
            self.delete_expired, self._every_s, longest_s=LONGEST_RETENTION_PAUSE_S, failed=_log_failed_deletion
        )

    async def delete_expired(self) -> None:
        """Delete all that is due by now. Raises Unavailable."""
        for event, delete_batch in self._batches.items():
            await _repeat(event, delete_batch)


async def _repeat(event: str, delete_batch: Batch) -> None:
    """Delete batches until one is empty, and log how much that was."""
    total = 0
    while deleted := await delete_batch():
        total += deleted
    if total:
        log.info(event, count=total)


def _log_failed_deletion(error: Exception) -> None:
    """Outages are logged once, by outages.py."""
    if not isinstance(error, Unavailable):
        log.error("what has expired could not be deleted, it will be retried", exc_info=error)
