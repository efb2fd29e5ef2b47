"""The HTTP client for one replica: checks whether it is fit for work, and reads its answers line by line."""

import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread
import httpx
from PIL import Image
from pydantic import ValidationError

from momalisa_api.fleet.wire import (
    MODEL_PATH,
    MODELS_PATH,
    NO_PICTURES,
    READY_PATH,
    RENDER_PATH,
    Head,
    ModelAnswer,
    ModelsAnswer,
    Pictures,
    RenderedExtra,
    RenderedFrame,
    RenderProblem,
    read_line,
    render_request,
)
from momalisa_api.problems import WalkFailed
from momalisa_api.walks.recipe import Recipe

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

CONNECT_TIMEOUT_S: Final = 5.0
# For each part of an answer, and for all answers to a check.
PROBE_TIMEOUT_S: Final = 5.0
CHECK_TIMEOUT_S: Final = 15.0
MAX_CHECK_BYTES: Final = 4 * 1024 * 1024
BUSY_PAUSE_S: Final = 1.0
LONGEST_BUSY_PAUSE_S: Final = 30.0
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
# Threads that read frames, for all replicas: each competes with the event loop for Python's lock.
READERS: Final = 2


class ReplicaUnfit(Exception):
    """The replica can take no work at present. str(unfit) says why."""


class ReplicaBusy(Exception):
    """The replica's queue is full, or it is still starting. pause_s: seconds to wait before the next request."""

    def __init__(self, pause_s: float) -> None:
        super().__init__(f"busy for {pause_s} s")
        self.pause_s = pause_s


class ReplicaUnavailable(Exception):
    """The replica cannot be reached, whatever it is asked for: it has not begun the shard."""


class ReplicaLost(Exception):
    """The replica refused the shard or did not finish it. Another one may render it."""


class ReplicaOutOfMemory(ReplicaLost):
    """The shard needs more memory than the replica has."""


class Replica:
    """One model-service at one address. It may hold several models, and renders one shard at a time."""

    def __init__(self, url: str, client: httpx.AsyncClient, readers: anyio.CapacityLimiter | None = None) -> None:
        """readers: limits the threads that read frames, together with other replicas."""
        self.url = url
        self._client = client
        self._readers = readers or anyio.CapacityLimiter(READERS)

    async def models(self) -> tuple[ModelAnswer, ...]:
        """The models that the replica has loaded and is ready to render with. Raises ReplicaUnfit."""
        try:
            with anyio.fail_after(CHECK_TIMEOUT_S):
                ready = await self._get(READY_PATH)
                if ready.status_code != 200:
                    raise ReplicaUnfit(f"not ready: {_detail(ready)}")
                answer = await self._get(MODELS_PATH)
                if answer.status_code != 404:
                    return ModelsAnswer.model_validate_json(answer.raise_for_status().content).models
                answer = await self._get(MODEL_PATH)
                return (ModelAnswer.model_validate_json(answer.raise_for_status().content),)
        except (httpx.TransportError, TimeoutError) as error:
            raise ReplicaUnfit("unreachable") from error
        except (httpx.HTTPError, ValidationError) as error:
            raise ReplicaUnfit("its answer does not follow the model contract") from error

    async def _get(self, path: str) -> httpx.Response:
        """A short answer of the replica. Raises ReplicaUnfit if it does not end."""
        async with self._client.stream("GET", self.url + path, timeout=PROBE_TIMEOUT_S) as response:
            content = await _beginning(response)
        if len(content) > MAX_CHECK_BYTES:
            raise ReplicaUnfit("its answer does not follow the model contract: it is too long")
        return httpx.Response(response.status_code, content=content, request=response.request)

    async def render(
        self, recipe: Recipe, fractions: tuple[float, ...], pictures: Pictures = NO_PICTURES, *, extras: bool = False
    ) -> AsyncGenerator[Head | RenderedExtra | RenderedFrame]:
        """The head of the answer, then each frame when it is ready. Closing the iterator cancels the rendering.

        pictures: those of the recipe, and the frames of its clip; extras: whether to get the recipe's files first.
        Raises ReplicaBusy, ReplicaUnavailable, ReplicaLost, and WalkFailed if no replica can render this.
        """
        if pictures:
            # They can have megabytes.
            request = await self.in_thread(self._request, recipe, fractions, pictures, extras)
        else:
            request = self._request(recipe, fractions)
        try:
            response = await self._client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ReplicaUnavailable(repr(error)) from error
        except httpx.HTTPError as error:
            raise ReplicaLost(repr(error)) from error
        try:
            if response.status_code != 200:
                kept = {"Retry-After": response.headers.get("Retry-After", "")}
                raise refusal(httpx.Response(response.status_code, headers=kept, content=await _beginning(response)))
            async for line in self._read(response, recipe):
                yield line
        except httpx.HTTPError as error:
            raise ReplicaLost(repr(error)) from error
        finally:
            await response.aclose()

    def _request(
        self, recipe: Recipe, fractions: tuple[float, ...], pictures: Pictures = NO_PICTURES, extras: bool = False
    ) -> httpx.Request:
        body = render_request(recipe, list(fractions), pictures, extras=extras)
        return self._client.build_request("POST", self.url + RENDER_PATH, json=body)

    async def _read(
        self, response: httpx.Response, recipe: Recipe
    ) -> AsyncIterator[Head | RenderedExtra | RenderedFrame]:
        """Parse an answer. Raises ReplicaLost if it does not follow the contract, or what its last line says."""
        head = False
        async for raw in _lines(response):
            # A frame can have megabytes, so it is read in a thread.
            line = await self.in_thread(read_frame, raw, recipe) if head else _read_head(raw)
            if isinstance(line, RenderProblem):
                problem = line.problem
                raise _problem(_status_of(problem), str(problem.get("detail", problem)))
            head = head or isinstance(line, Head)
            yield line

    async def in_thread(self, read: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Read a part of an answer without holding up the event loop."""
        return await anyio.to_thread.run_sync(read, *arguments, limiter=self._readers)


async def _beginning(response: httpx.Response) -> bytes:
    """The body of an answer that should be short. If it has more than MAX_CHECK_BYTES, not all of it, but more."""
    content = b""
    async for part in response.aiter_bytes():
        content += part
        if len(content) > MAX_CHECK_BYTES:
            break
    return content


def refusal(response: httpx.Response) -> Exception:
    """The exception for an answer other than 200, which was read."""
    return _problem(response.status_code, _detail(response), response.headers.get("Retry-After", ""))


def _problem(status: int, detail: str, retry_after: str = "") -> Exception:
    """The exception for a problem, whether it is the whole answer or the last line of one."""
    match status:
        case 408 | 425 | 429 | 503:
            return ReplicaBusy(
                min(float(retry_after), LONGEST_BUSY_PAUSE_S) if retry_after.isdecimal() else BUSY_PAUSE_S
            )
        case 507:
            return ReplicaOutOfMemory(detail)
        case 401 | 403 | 404 | 405 | 407 | 409:
            # About what is at this address: another model, or no model service.
            return ReplicaLost(f"{status}: {detail}")
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


def _read_head(raw: bytes) -> Head | RenderProblem:
    try:
        line = json.loads(raw)
        return RenderProblem.model_validate(line) if "problem" in line else Head.model_validate(line)
    except (ValueError, TypeError, RecursionError) as error:
        raise ReplicaLost(f"unreadable answer: {error!r}") from error


def read_frame(raw: bytes, recipe: Recipe) -> RenderedFrame | RenderedExtra | RenderProblem:
    """Parse a line after the first, and validate its picture. Raises ReplicaLost."""
    try:
        line = read_line(json.loads(raw))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ReplicaLost(f"unreadable answer: {error!r}") from error
    if isinstance(line, RenderedFrame):
        check_picture(line.png, recipe)
    elif isinstance(line, RenderedExtra):
        _check_extra(line, recipe)
    return line


def _check_extra(extra: RenderedExtra, recipe: Recipe) -> None:
    """Validate a file of a recipe before it goes into the bucket. Raises ReplicaLost."""
    if extra.media_type == "image/png":
        check_picture(extra.content, recipe)
        return
    try:
        json.loads(extra.content)
    except (ValueError, RecursionError) as error:
        raise ReplicaLost(f"the extra {extra.name} is not valid JSON: {error}") from error


def _status_of(problem: dict[str, Any]) -> int:
    status = problem.get("status")
    return status if isinstance(status, int) else 500


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
    parts: list[bytes] = []
    size = 0
    async for chunk in response.aiter_bytes():
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            yield b"".join([*parts, end])
            parts, size = [], 0
        parts.append(rest)
        size += len(rest)
        if size > MAX_LINE_BYTES:
            raise ReplicaLost("a line of the answer is too long")
    if size:
        yield b"".join(parts)
