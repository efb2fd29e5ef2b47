"""Conditional and range requests: which part of a stored file a client wants, and which copy it has already.

Source: RFC 9110, sections 13 and 14.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Annotated

from fastapi import Depends, Header

from momalisa_api.problems import RangeUnsatisfiable
from momalisa_api.web.routes.deps import HeadersOnly


@dataclass(frozen=True, slots=True)
class Conditions:
    """What of a request refers to a copy of the file, or to a part of it. headers_only: whether it is a HEAD."""

    headers_only: bool = False
    byte_range: str | None = None
    if_range: str | None = None
    none_match: str | None = None
    modified_since: str | None = None

    def has_current(self, etag: str, modified: datetime | None) -> bool:
        """Whether the client's copy is the current file, so that the answer is 304."""
        if self.none_match is not None:
            return self.none_match.strip() == "*" or etag in self.none_match
        # Exactly the same time: a file that replaced a newer one is another file, too.
        return modified is not None and _date(self.modified_since) == modified

    def wanted(self, size: int, etag: str, modified: datetime | None) -> tuple[int, int] | None:
        """First and last byte that the client wants; None for the whole file. Raises RangeUnsatisfiable."""
        if self.if_range is not None and not self._continues(self.if_range.strip(), etag, modified):
            return None
        return parse_range(self.byte_range, size)

    def _continues(self, if_range: str, etag: str, modified: datetime | None) -> bool:
        """Whether the part that the client has is of the current file. A weak ETag never says so."""
        if if_range.startswith(('"', "W/")):
            return if_range == etag
        return modified is not None and _date(if_range) == modified


async def _conditions(
    headers_only: HeadersOnly,
    byte_range: Annotated[str | None, Header(alias="Range", description="One range of bytes: bytes=0-1023.")] = None,
    if_range: Annotated[
        str | None,
        Header(description="An ETag or Last-Modified; the range is ignored if the file is another one by now."),
    ] = None,
    none_match: Annotated[
        str | None, Header(alias="If-None-Match", description="An ETag; the answer is 304 if it is current.")
    ] = None,
    modified_since: Annotated[
        str | None, Header(alias="If-Modified-Since", description="A date; the answer is 304 if nothing changed since.")
    ] = None,
) -> Conditions:
    return Conditions(headers_only, byte_range, if_range, none_match, modified_since)


ConditionsDep = Annotated[Conditions, Depends(_conditions)]


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of a Range header; None for the whole file, or for a header that can be ignored.

    Raises RangeUnsatisfiable if the range is outside `size`. Source: RFC 9110, section 14.1.2.
    """
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", (header or "").strip())
    if not found or not any(found.groups()):
        return None
    start, end = found.groups()
    first = int(start) if start else max(0, size - int(end))
    last = min(int(end), size - 1) if start and end else size - 1
    if start and end and int(end) < first:
        return None
    if first >= size or (not start and int(end) == 0):
        raise RangeUnsatisfiable(size)
    return first, last


def http_date(modified: datetime) -> str:
    """A time in UTC as HTTP writes it."""
    return format_datetime(modified, usegmt=True)


def _date(header: str | None) -> datetime | None:
    """The time that a header names; None for anything else, which is ignored."""
    try:
        return parsedate_to_datetime(header or "")
    except (ValueError, OverflowError):
        return None
