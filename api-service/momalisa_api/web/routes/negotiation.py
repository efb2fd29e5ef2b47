"""Content negotiation and waiting times from request headers (RFC 9110, RFC 7240)."""

import math

from momalisa_api.web.request import MAX_WAIT_S


def preferred(accept: str | None, offered: tuple[str, ...]) -> str | None:
    """The offered media type that an Accept header prefers, the earlier one of equals.

    None if the header accepts none. A missing header accepts all. Source: RFC 9110, section 12.5.1.
    """
    ranges = [_range(part) for part in (accept or "*/*").split(",")]

    def preference(media_type: str) -> float:
        matching = [(_closeness(wanted, media_type), quality) for wanted, quality in ranges]
        closeness, quality = max(matching)
        return quality if closeness else 0.0

    best = max(offered, key=preference)
    return best if preference(best) > 0 else None


def waiting_s(prefer: str | None) -> float:
    """Seconds to wait according to a Prefer header (`wait=20`): at most 25, and 0 without one."""
    for part in (prefer or "").replace(";", ",").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "wait" and value.strip('" ').isdecimal():
            return float(min(int(value.strip('" ')[:9]), MAX_WAIT_S))
    return 0.0


def _range(part: str) -> tuple[str, float]:
    media_range, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            return media_range.lower(), _quality(value)
    return media_range.lower(), 1.0


def _quality(value: str) -> float:
    try:
        quality = float(value)
    except ValueError:
        return 1.0
    return min(1.0, max(0.0, quality)) if math.isfinite(quality) else 1.0


def _closeness(wanted: str, media_type: str) -> int:
    if wanted == media_type:
        return 3
    if wanted == media_type.split("/")[0] + "/*":
        return 2
    return int(wanted == "*/*")
