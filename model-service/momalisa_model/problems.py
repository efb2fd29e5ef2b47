"""Every failure of this service. Domain code raises these; problem_json.py turns them into HTTP responses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST_NAME = 100
LONGEST_DETAIL = 500
MAX_ERRORS = 20


class Problem(Exception):
    """A failure that the caller must know about. str(problem) says what is wrong and what to do.

    extra: further members of the problem document; headers: HTTP headers of the response.
    """

    status, slug, title = 500, "internal", "Internal server error"

    def __init__(self, detail: str, *, headers: Mapping[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.headers = dict(headers or {})
        self.extra = extra


class Invalid(Problem):
    """Some fields of the request are invalid; the member `errors` lists them.

    errors: (field, what is allowed) of each, the field as a path such as `recipe.width`. What was sent is not
    repeated, and long lists and texts are cut: a request may have hundreds of kilobytes.
    """

    status, slug, title = 422, "invalid-request", "Invalid request"

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        listed = [
            {"field": _printable(field, LONGEST_NAME), "detail": _printable(detail, LONGEST_DETAIL)}
            for field, detail in errors[:MAX_ERRORS]
        ]
        sentence = "; ".join(f"{error['field']} {error['detail']}" for error in listed)
        super().__init__(f"{sentence}.", errors=listed)


class BodyTooLarge(Problem):
    """The body has more bytes than MOMALISA_MAX_BODY_BYTES allows."""

    status, slug, title = 413, "body-too-large", "Request body too large"


class WrongModel(Problem):
    """The recipe names other weights than the loaded ones; `model` and `revision` name the loaded ones."""

    status, slug, title = 409, "wrong-model", "A different model is loaded"


class QueueFull(Problem):
    """One shard is on the device, and the queue has no place left."""

    status, slug, title = 503, "queue-full", "Queue full"

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail, headers={"Retry-After": str(max(1, math.ceil(retry_after_s)))})


class Stopping(Problem):
    """The replica shuts down, or the caller has disconnected, before the work was finished."""

    status, slug, title = 503, "stopping", "Server shutting down"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "1"})


class DeviceFailed(Problem):
    """The device does not even render the card's defaults any more. The process ends, to be started again."""

    status, slug, title = 503, "device-failed", "The device has failed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "5"})


class NotReady(Problem):
    """The weights are not loaded yet, or cannot be loaded."""

    status, slug, title = 503, "not-ready", "The model is not ready"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "5"})


class OutOfMemory(Problem):
    """The device has too little memory for this request. The replica continues to work."""

    status, slug, title = 507, "out-of-memory", "Out of device memory"


class NotANumber(Problem):
    """The numbers overflowed: the picture would be black or white, and would be stored for ever.

    A 4xx, because the same recipe overflows on every replica.
    """

    status, slug, title = 422, "not-a-number", "The picture contains invalid numbers"


class UnsuitableModel(Problem):
    """The weights or the card cannot be used. Reported by /readyz and the log, never as the response to a render."""

    slug, title = "unsuitable-model", "The model cannot be used"


class DownloadFailed(UnsuitableModel):
    """The model, or a part of it, could not be downloaded. Loading is tried again by itself."""

    slug, title = "download-failed", "The model could not be downloaded"


class FilesChanged(UnsuitableModel):
    """Files of the model changed while they were loaded. Loading is tried again by itself."""

    slug, title = "files-changed", "The files of the model have changed"


def _printable(text: str, longest: int) -> str:
    """Names of fields may hold lone surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode()[:longest]
