"""Logs once that a dependency became unavailable and once that it is available again, however many calls fail.

Does not decide what callers get (problems.py), nor whether a call is retried (backoff.py).
"""

from threading import Lock
from time import monotonic
from typing import Final

import structlog

# A dependency that fails every other call must not fill the log: its outage is over after so long without a failure.
QUIET_S: Final = 5.0

log = structlog.get_logger()


class Outage:
    """Whether one dependency is unavailable, and since when. Safe to use from any thread."""

    def __init__(self, part: str, quiet_s: float = QUIET_S) -> None:
        """part: "catalogue" or "bucket". quiet_s: seconds without a failed call after which an outage is over."""
        self._part = part
        self._quiet_s = quiet_s
        self._lock = Lock()
        self._began_at: float | None = None
        self._back_at: float | None = None

    def missed(self, why: BaseException) -> None:
        """Record a failed call."""
        with self._lock:
            self._back_at = None
            if self._began_at is None:
                self._began_at = monotonic()
                log.warning("dependency unavailable", part=self._part, reason=str(why) or type(why).__name__)

    def answered(self) -> None:
        """Record a successful call. Costs nothing while there is no outage."""
        if self._began_at is None:
            return
        with self._lock:
            now = monotonic()
            self._back_at = self._back_at or now
            if self._began_at is not None and now - self._back_at >= self._quiet_s:
                log.info("dependency available again", part=self._part, away_s=round(self._back_at - self._began_at, 1))
                self._began_at = None
