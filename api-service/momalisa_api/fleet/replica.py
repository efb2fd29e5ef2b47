"""The HTTP client for one replica: checks whether it is fit for work, and reads its answers line by line."""

import io
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

import httpx
import structlog
from PIL import Image
from pydantic import ValidationError

from momalisa_api.fleet.wire import (
    MODEL_PATH,
    READY_PATH,
    RENDER_PATH,
    Head,
    ModelAnswer,
    RenderedFrame,
    RenderProblem,
    read_line,
    render_request,
)
from momalisa_api.problems import WalkFailed
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.spec import Recipe

log = structlog.get_logger()

CONNECT_TIMEOUT_S: Final = 5.0
PROBE_TIMEOUT_S: Final = 5.0
BUSY_PAUSE_S: Final = 1.0
LONGEST_BUSY_PAUSE_S: Final = 30.0
MAX_LINE_BYTES: Final = 64 * 1024 * 1024


class ReplicaBusy(Exception):
    """The replica's queue is full, or it is still starting. pause_s: seconds to wait before the next request."""

    def __init__(self, pause_s: float) -> None:
        super().__init__(f"busy for {pause_s} s")
        self.pause_s = pause_s


class ReplicaUnavailable(Exception):
    """The replica cannot be reached or does not accept the request: it has not begun the shard."""


class ReplicaLost(Exception):
    """The replica accepted the shard and did not finish it."""


class Replica:
    """One model-service at one address."""

    def __init__(self, url: str, client: httpx.AsyncClient, card: ModelCard) -> None:
        self.url = url
        self._client = client
        self._card = card
        self._logged: str | None = None

    async def is_fit(self) -> bool:
        """Whether the replica is ready and has the model card that this API has. Logs every change."""
        return self._log_fitness(await self._reason_unfit())

    def _log_fitness(self, reason: str) -> bool:
        if reason != self._logged:
            self._logged = reason
            log.info("replica is unfit" if reason else "replica is fit", url=self.url, reason=reason)
        return not reason

    async def _reason_unfit(self) -> str:
        try:
            ready = await self._client.get(self.url + READY_PATH, timeout=PROBE_TIMEOUT_S)
            if ready.status_code != 200:
                return f"not ready: {_detail(ready)}"
            answer = await self._client.get(self.url + MODEL_PATH, timeout=PROBE_TIMEOUT_S)
            card = ModelAnswer.model_validate_json(answer.raise_for_status().content).card
        except httpx.TransportError:
            return "unreachable"
        except (httpx.HTTPError, ValidationError):
            return "its answer does not follow the model contract"
        return "" if card.agrees_with(self._card) else f"has another model card: {card.model} at {card.revision}"

    async def render(self, recipe: Recipe, fractions: tuple[float, ...]) -> AsyncGenerator[Head | RenderedFrame]:
        """The head of the answer, then each frame when it is ready. Closing the iterator cancels the rendering.

        Raises ReplicaBusy, ReplicaUnavailable, ReplicaLost, and WalkFailed if no replica can render this.
        """
        request = self._client.build_request(
            "POST", self.url + RENDER_PATH, json=render_request(recipe, list(fractions))
        )
        try:
            response = await self._client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ReplicaUnavailable(repr(error)) from error
        except httpx.HTTPError as error:
            raise ReplicaLost(repr(error)) from error
        try:
            if response.status_code != 200:
                raise await _refusal(response)
            async for line in _frames(response):
                if isinstance(line, RenderedFrame):
                    check_picture(line.png, recipe)
                yield line
        except httpx.HTTPError as error:
            raise ReplicaLost(repr(error)) from error
        finally:
            await response.aclose()


async def _refusal(response: httpx.Response) -> Exception:
    """The exception for an answer other than 200."""
    await response.aread()
    detail = _detail(response)
    match response.status_code:
        case 503:
            after = response.headers.get("Retry-After", "")
            return ReplicaBusy(min(float(after), LONGEST_BUSY_PAUSE_S) if after.isdecimal() else BUSY_PAUSE_S)
        case 404 | 405 | 409:
            return ReplicaUnavailable(detail)
        case status if 400 <= status < 500:
            return WalkFailed(f"The model service refused the request: {detail}")
        case status:
            return ReplicaLost(f"{status}: {detail}")


def _detail(response: httpx.Response) -> str:
    """The detail of a problem document, or the beginning of any other body."""
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return response.text[:200]


async def _frames(response: httpx.Response) -> AsyncIterator[Head | RenderedFrame]:
    """Parse an answer. Raises ReplicaLost if it does not follow the contract or ends with a problem."""
    head: Head | None = None
    try:
        async for raw in _lines(response):
            line = json.loads(raw)
            if head is None and "problem" not in line:
                yield (head := Head.model_validate(line))
                continue
            match read_line(line):
                case RenderProblem(problem=problem) if problem.get("status") == 422:
                    raise WalkFailed(f"The model service refused the request: {problem.get('detail')}")
                case RenderProblem(problem=problem):
                    raise ReplicaLost(str(problem.get("detail", problem)))
                case RenderedFrame() as frame:
                    yield frame
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ReplicaLost(f"unreadable answer: {error!r}") from error


def check_picture(png: bytes, recipe: Recipe) -> None:
    """Validate a frame before it goes into the bucket, where it stays for ever. Raises ReplicaLost."""
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
            size = picture.size
            picture.verify()
    except (OSError, SyntaxError, ValueError) as error:
        raise ReplicaLost(f"a frame is not a valid PNG: {error}") from error
    if size != (recipe.width, recipe.height):
        raise ReplicaLost(f"a frame is {size[0]} x {size[1]} pixels, not {recipe.width} x {recipe.height}")


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """The lines of an answer, split only at newlines: httpx's own splitting breaks JSON at U+2028."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > MAX_LINE_BYTES:
            raise ReplicaLost("a line of the answer is too long")
    if rest:
        yield rest
