"""Says once that a part of the deployment does not answer, and once that it does again, however many calls meet it.

Not what callers are told (problems.py), and not whether a call is tried again, which who calls decides.
"""

from threading import Lock
from time import monotonic
from typing import Final

import structlog

# A part that answers every other call must not fill the log: it is back when it has not failed for so long.
QUIET_S: Final = 5.0

log = structlog.get_logger()


class Outage:
    """What is known of one part's absence. Safe to tell from any thread."""

    def __init__(self, part: str, quiet_s: float = QUIET_S) -> None:
        """part: "catalogue" or "bucket". quiet_s: seconds without a failed call after which the part is back."""
        self._part = part
        self._quiet_s = quiet_s
        self._lock = Lock()
        self._began_at: float | None = None
        self._back_at: float | None = None

    def missed(self, why: BaseException) -> None:
        """A call was not answered."""
        with self._lock:
            self._back_at = None
            if self._began_at is None:
                self._began_at = monotonic()
                log.warning("a part does not answer", part=self._part, reason=str(why) or type(why).__name__)

    def answered(self) -> None:
        """A call was answered. Costs nothing while there is no outage."""
        if self._began_at is None:
            return
        with self._lock:
            now = monotonic()
            self._back_at = self._back_at or now
            if self._began_at is not None and now - self._back_at >= self._quiet_s:
                log.info("a part answers again", part=self._part, away_s=round(self._back_at - self._began_at, 1))
                self._began_at = None
