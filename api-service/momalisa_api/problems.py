"""Every failure that a caller can meet. Domain code raises these; web/problem_json.py turns them into HTTP answers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar


class Problem(Exception):
    """A failure the caller should hear about. str(problem) says what to do."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something broke here"
    headers: Mapping[str, str] = MappingProxyType({})


class Invalid(Problem):
    status, slug, title = 422, "invalid", "The request does not fit"

    def __init__(self, detail: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(detail)
        self.errors = errors or []


class PromptBlocked(Problem):
    status, slug, title = 422, "prompt-blocked", "This prompt is not painted here"


class KeyUnknown(Problem):
    status, slug, title = 401, "key-unknown", "The API key is not known"
    headers = MappingProxyType({"WWW-Authenticate": "Bearer"})


class NotYours(Problem):
    status, slug, title = 403, "not-yours", "Nobody knows that it is yours"


class WalkUnknown(Problem):
    status, slug, title = 404, "walk-unknown", "There is no such walk"


class NotThereYet(Problem):
    status, slug, title = 404, "not-there-yet", "This part of the walk is not there yet"


class NotAcceptable(Problem):
    status, slug, title = 406, "not-acceptable", "That format is not made here"


class WalkCancelled(Problem):
    status, slug, title = 409, "walk-cancelled", "The walk was cancelled"


class Gone(Problem):
    status, slug, title = 410, "gone", "This was there once"


class BodyTooLarge(Problem):
    status, slug, title = 413, "body-too-large", "The request body is too large"


class RangeUnsatisfiable(Problem):
    status, slug, title = 416, "range-unsatisfiable", "The range lies outside the file"

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size} bytes.")
        self.headers = {"Content-Range": f"bytes */{size}"}


class WalkFailed(Problem):
    status, slug, title = 502, "walk-failed", "The walk could not be rendered"


class TooManyWaiting(Problem):
    status, slug, title = 503, "too-many-waiting", "Too many walks are waiting"

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail)
        self.headers = {"Retry-After": str(retry_after_s)}


class BudgetSpent(TooManyWaiting):
    status, slug, title = 429, "budget-spent", "You have asked for as much as you may"


class Unavailable(Problem):
    """Something that the api stands on does not answer just now. Whoever can wait should: it is nobody's fault."""

    headers = MappingProxyType({"Retry-After": "10"})


class BucketUnavailable(Unavailable):
    status, slug, title = 503, "bucket-unavailable", "Frames and films are out of reach"


class CatalogueUnavailable(Unavailable):
    status, slug, title = 503, "catalogue-unavailable", "Walks are out of reach"


class Stopping(Problem):
    status, slug, title = 503, "stopping", "The process stops"
    headers = MappingProxyType({"Retry-After": "1"})
