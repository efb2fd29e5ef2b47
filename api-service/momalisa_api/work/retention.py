"""Deletes what is kept for a limited time: the pictures that visitors have uploaded, and charges of walks."""

from typing import Final

import structlog

from momalisa_api.backoff import repeat_forever
from momalisa_api.problems import Unavailable
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.pictures import PictureStore

RETENTION_S: Final = 60.0
LONGEST_RETENTION_PAUSE_S: Final = 600.0

log = structlog.get_logger()


class Retention:
    """A periodic task of workers. Several at once do no harm."""

    def __init__(self, pictures: PictureStore, catalogue: Catalogue, every_s: float = RETENTION_S) -> None:
        self._pictures = pictures
        self._catalogue = catalogue
        self._every_s = every_s

    async def run(self) -> None:
        """Delete what has expired, until cancelled."""
        await repeat_forever(
            self.delete_expired, self._every_s, longest_s=LONGEST_RETENTION_PAUSE_S, failed=_log_failed_deletion
        )

    async def delete_expired(self) -> None:
        """Delete all that has expired by now. Raises Unavailable."""
        await self._catalogue.delete_old_charges()
        total = 0
        while deleted := await self._pictures.delete_expired():
            total += deleted
        if total:
            log.info("expired pictures deleted", count=total)


def _log_failed_deletion(error: Exception) -> None:
    """Outages are logged once, by outages.py."""
    if not isinstance(error, Unavailable):
        log.error("expired pictures could not be deleted, it will be retried", exc_info=error)
