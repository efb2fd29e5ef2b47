"""Every failure that a caller can meet. Domain code raises these; web/problem_json.py turns them into HTTP answers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar


class Problem(Exception):
    """A failure that the caller sees. str(problem) says what to do."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal server error"
    headers: Mapping[str, str] = MappingProxyType({})


class Invalid(Problem):
    status, slug, title = 422, "invalid-request", "Invalid request"

    def __init__(self, detail: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(detail)
        self.errors = errors or []


class PromptBlocked(Problem):
    status, slug, title = 422, "prompt-blocked", "Prompt not allowed"


class UnknownKey(Problem):
    status, slug, title = 401, "unknown-key", "Unknown API key"
    headers = MappingProxyType({"WWW-Authenticate": "Bearer"})


class TokenRefused(Problem):
    status, slug, title = 401, "token-refused", "ID token not accepted"
    headers = MappingProxyType({"WWW-Authenticate": 'Bearer error="invalid_token"'})


class SignInRequired(Problem):
    status, slug, title = 401, "sign-in-required", "Sign-in required"
    headers = MappingProxyType({"WWW-Authenticate": "Bearer"})


class SignInFailed(Problem):
    status, slug, title = 400, "sign-in-failed", "Sign-in failed"


class SignInOff(Problem):
    status, slug, title = 404, "sign-in-off", "No sign-in here"


class CrossSiteRequest(Problem):
    status, slug, title = 403, "cross-site-request", "Request from another site"


class NotOwner(Problem):
    status, slug, title = 403, "not-owner", "You do not own this walk"


class GetStartsNothing(Problem):
    status, slug, title = 403, "get-starts-nothing", "This GET cannot start a walk"


class NoIdentity(Problem):
    status, slug, title = 403, "no-identity", "Cookie or API key needed"


class WalkNotFound(Problem):
    status, slug, title = 404, "walk-not-found", "Walk not found"


class NotReadyYet(Problem):
    status, slug, title = 404, "not-ready-yet", "Not ready yet"


class NotAcceptable(Problem):
    status, slug, title = 406, "not-acceptable", "Format not available"


class WalkCancelled(Problem):
    status, slug, title = 409, "walk-cancelled", "Walk cancelled"


class Gone(Problem):
    status, slug, title = 410, "gone", "No longer available"


class LinkExpired(Problem):
    status, slug, title = 410, "link-expired", "Link expired"


class BodyTooLarge(Problem):
    status, slug, title = 413, "body-too-large", "Request body too large"


class RangeUnsatisfiable(Problem):
    status, slug, title = 416, "range-unsatisfiable", "Range not satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size} bytes.")
        self.headers = {"Content-Range": f"bytes */{size}"}


class PictureNotFound(Problem):
    status, slug, title = 404, "picture-not-found", "Picture not found"


class WebhookNotFound(Problem):
    status, slug, title = 404, "webhook-not-found", "Webhook not found"


class ClipNotFound(Problem):
    status, slug, title = 404, "clip-not-found", "Clip not found"


class UploadTooSlow(Problem):
    status, slug, title = 408, "upload-too-slow", "Upload too slow"


class BadPicture(Problem):
    status, slug, title = 422, "bad-picture", "Picture cannot be used"


class BadClip(Problem):
    status, slug, title = 422, "bad-clip", "Clip cannot be used"


class AddressRefused(Problem):
    status, slug, title = 422, "address-refused", "Address not allowed"


class FetchFailed(Problem):
    # Not a 5xx: it is the caller's address that does not answer.
    status, slug, title = 422, "fetch-failed", "File could not be fetched"


class NoMail(Problem):
    status, slug, title = 404, "no-mail", "This deployment sends no mail"


class MailStopped(Problem):
    status, slug, title = 422, "mail-stopped", "Address wants no mail"


class WalkFailed(Problem):
    # Not a 5xx: curl and other clients would repeat a request that cannot succeed.
    status, slug, title = 409, "walk-failed", "Walk failed"


class WalkUnfinished(Problem):
    """A film was requested that is still being made. A 2xx status would let clients save this answer as the film."""

    status, slug, title = 503, "walk-unfinished", "Walk not finished yet"
    retry_after_s: ClassVar[int] = 2
    headers = MappingProxyType({"Retry-After": str(retry_after_s)})


class Starting(Problem):
    """No replica has told yet what it renders, so that no request can be completed."""

    status, slug, title = 503, "starting", "No model known yet"
    headers = MappingProxyType({"Retry-After": "10"})


class QueueFull(Problem):
    status, slug, title = 503, "queue-full", "Queue full"

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail)
        self.headers = {"Retry-After": str(retry_after_s)}


class QuotaExceeded(QueueFull):
    status, slug, title = 429, "quota-exceeded", "Quota exceeded"


class Busy(Problem):
    """More requests came at once than this process can work on."""

    status, slug, title = 503, "busy", "Too many requests at once"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"Too many requests came at once. Retry in {retry_after_s} seconds.")
        self.headers = {"Retry-After": str(retry_after_s)}


class DayFull(QueueFull):
    status, slug, title = 503, "day-full", "Daily capacity reached"


class Unavailable(Problem):
    """A dependency is not responding. Callers that can wait should retry."""

    headers = MappingProxyType({"Retry-After": "10"})


class BucketUnavailable(Unavailable):
    status, slug, title = 503, "bucket-unavailable", "Image storage unavailable"


class CatalogueUnavailable(Unavailable):
    status, slug, title = 503, "catalogue-unavailable", "Walk database unavailable"


class SignInUnavailable(Unavailable):
    status, slug, title = 503, "sign-in-unavailable", "Identity provider unavailable"


class Stopping(Problem):
    status, slug, title = 503, "stopping", "Server shutting down"
    headers = MappingProxyType({"Retry-After": "1"})
