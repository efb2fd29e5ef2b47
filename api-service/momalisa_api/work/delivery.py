"""What can become of a delivery, and when it is tried again. Pure."""

import random
from typing import Final

from momalisa_api.backoff import delay_s

FIRST_DELIVERY_PAUSE_S: Final = 10.0
LONGEST_DELIVERY_PAUSE_S: Final = 4 * 3600.0
DELIVERY_FACTOR: Final = 4.0
# 10 s, 40 s, 3 min, 11 min, 43 min, 3 h, 4 h, 4 h: about 12 hours.
MAX_DELIVERIES: Final = 9
# Receivers that were away for all must not get everything at the same moment.
JITTER: Final = 0.2


class NotDelivered(Exception):
    """A delivery failed. final: whether trying again is useless. str(error) names neither address nor URL."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


def pause_s(failures: int, first_s: float = FIRST_DELIVERY_PAUSE_S) -> float:
    """Seconds until the next delivery after a number of failures, which is at least 1."""
    longest_s = max(first_s, LONGEST_DELIVERY_PAUSE_S)
    return delay_s(failures, first_s, longest_s, DELIVERY_FACTOR) * random.uniform(1 - JITTER, 1 + JITTER)
