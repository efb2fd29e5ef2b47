"""The model behind an endpoint of Vertex AI: the same frames, all of a call at once, for a token of Google's.

Source: cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.endpoints/predict.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, Final
from urllib.parse import urldefrag

import anyio
import anyio.to_thread
import httpx

from momalisa_api.fleet.replica import (
    BUSY_PAUSE_S,
    Replica,
    ReplicaAway,
    ReplicaBusy,
    ReplicaLost,
    check_picture,
    log,
)
from momalisa_api.fleet.wire import Head, RenderedFrame, Trouble, read_line, render_request
from momalisa_api.problems import WalkFailed
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.spec import Recipe

PREFIX: Final = "vertex+"
SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
# A dedicated endpoint's bound for an answer, with room for what stands around the pictures.
MAX_ANSWER_BYTES: Final = 9_000_000
# A picture that cannot be compressed: three bytes a pixel, in base64.
BYTES_A_PIXEL: Final = 4

Token = Callable[[], Awaitable[str]]


def lanes_of(address: str) -> Iterator[str]:
    """An endpoint once for each call that it may have at a time: vertex+https://…/endpoints/7#4 is four of them."""
    endpoint, lanes = urldefrag(address)
    for lane in range(int(lanes or 1)):
        yield f"{endpoint.rstrip('/')}#{lane}"


class GoogleToken:
    """A token of this process's own account, made anew before it runs out."""

    def __init__(self) -> None:
        self._credentials: Any = None
        self._one_at_a_time = anyio.Lock()

    async def __call__(self) -> str:
        """Raises ReplicaAway where there is no account, or Google does not answer."""
        async with self._one_at_a_time:
            return await anyio.to_thread.run_sync(self._fresh)

    def _fresh(self) -> str:
        # Here, as Google's library takes long to import and few deployments need it.
        import google.auth
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        try:
            if self._credentials is None:
                self._credentials, _ = google.auth.default(scopes=[SCOPE])
            if not self._credentials.valid:
                self._credentials.refresh(Request())
        except GoogleAuthError as error:
            raise ReplicaAway(f"no token of Google's: {error}") from error
        return str(self._credentials.token)


class VertexReplica(Replica):
    """One call at a time to an endpoint, which deals calls to its own replicas.

    It tells neither its model card nor what went unheard; weights that are not the recipe's it refuses by itself.
    """

    def __init__(self, address: str, client: httpx.AsyncClient, card: ModelCard, token: Token) -> None:
        """address: vertex+https://HOST/v1/projects/P/locations/L/endpoints/E; what follows a # is left out."""
        super().__init__(address, client, card)
        self._predict_url = urldefrag(address.removeprefix(PREFIX)).url + ":predict"
        self._token = token

    async def is_fit(self) -> bool:
        """Whether there is a token to call with. Says in the log when that changes."""
        try:
            await self._token()
            reason = ""
        except ReplicaAway as away:
            reason = str(away)
        if reason != self._said:
            self._said = reason
            log.info("endpoint", url=self.url, fit=not reason, reason=reason)
        return not reason

    async def render(self, recipe: Recipe, fractions: tuple[float, ...]) -> AsyncGenerator[Head | RenderedFrame]:
        """A head, then the frames, as many at a time as fit into an answer.

        Raises ReplicaBusy, ReplicaAway, ReplicaLost, or WalkFailed where no replica could ever render this.
        """
        size = max(1, MAX_ANSWER_BYTES // (recipe.width * recipe.height * BYTES_A_PIXEL))
        for first in range(0, len(fractions), size):
            frames = await self._predict(recipe, fractions[first : first + size])
            if not first:
                yield Head(model=recipe.model, revision=recipe.revision, fingerprint="")
            for frame in frames:
                check_picture(frame.png, recipe)
                yield frame

    async def _predict(self, recipe: Recipe, fractions: tuple[float, ...]) -> list[RenderedFrame]:
        body = render_request(recipe, [])["recipe"]
        instances = [{"recipe": body, "fraction": fraction} for fraction in fractions]
        headers = {"Authorization": f"Bearer {await self._token()}"}
        try:
            answer = await self._client.post(self._predict_url, json={"instances": instances}, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ReplicaAway(repr(error)) from error
        except httpx.HTTPError as error:
            raise ReplicaLost(repr(error)) from error
        if answer.status_code != 200:
            raise _refusal(answer)
        return _frames(answer, len(fractions))


def _refusal(answer: httpx.Response) -> Exception:
    """What an answer other than 200 means for the shard: Google's own door speaks here, and the model behind it."""
    said = f"{answer.status_code}: {answer.text[:200]}"
    match answer.status_code:
        case 429 | 503:
            return ReplicaBusy(BUSY_PAUSE_S)
        case 401 | 403 | 404 | 409:
            return ReplicaAway(said)
        case 400 | 413 | 422:
            return WalkFailed(f"The endpoint refused the walk: {said}")
        case _:
            return ReplicaLost(said)


def _frames(answer: httpx.Response, expected: int) -> list[RenderedFrame]:
    try:
        frames = [read_line(line) for line in json.loads(answer.content)["predictions"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ReplicaLost(f"unreadable answer: {error!r}") from error
    found = [frame for frame in frames if not isinstance(frame, Trouble)]
    if len(found) != expected:
        raise ReplicaLost(f"{len(found)} frames for {expected} instances")
    return found
