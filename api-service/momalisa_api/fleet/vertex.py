"""The client for an endpoint of Vertex AI: the same frames, but all frames of a call at once.

Source: cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.endpoints/predict.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, Final
from urllib.parse import urldefrag

import anyio
import anyio.to_thread
import httpx

from momalisa_api.fleet.picture_files import fitted
from momalisa_api.fleet.replica import (
    Replica,
    ReplicaBusy,
    ReplicaLost,
    ReplicaUnavailable,
    ReplicaUnfit,
    check_picture,
    refusal,
)
from momalisa_api.fleet.wire import (
    NO_PICTURES,
    Head,
    ModelAnswer,
    ModelsAnswer,
    Pictures,
    RenderedExtra,
    RenderedFrame,
    read_line,
    render_request,
)
from momalisa_api.problems import WalkFailed
from momalisa_api.walks.fingerprints import UNKNOWN
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.recipe import Recipe

PREFIX: Final = "vertex+"
SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
# The limit of a dedicated endpoint for an answer, less some room for the JSON around the pictures.
MAX_ANSWER_BYTES: Final = 9_000_000
# For each of two pictures: in base64, they leave a fifth of the 1.5 MB of a request to the rest. Not more for a single
# picture, as it must be the same in both legs that it joins.
MAX_PICTURE_BYTES: Final = 450_000
# A picture that cannot be compressed: three bytes per pixel, in base64.
BYTES_PER_PIXEL: Final = 4
# Its models change only when another version is deployed; each of its calls counts as a replica, and asks.
ASK_AGAIN_S: Final = 60.0

Token = Callable[[], Awaitable[str]]


def concurrent_urls(address: str) -> Iterator[str]:
    """One URL for each concurrent call to an endpoint: vertex+https://…/endpoints/7#4 gives four."""
    endpoint, calls = urldefrag(address)
    for call in range(int(calls or 1)):
        yield f"{endpoint.rstrip('/')}#{call}"


class GoogleToken:
    """Access tokens of this process's own Google account, renewed before they expire."""

    def __init__(self) -> None:
        self._credentials: Any = None
        self._one_at_a_time = anyio.Lock()

    async def __call__(self) -> str:
        """Return a valid token. Raises ReplicaUnavailable if there is no account or Google cannot be reached."""
        async with self._one_at_a_time:
            return await anyio.to_thread.run_sync(self._fresh)

    def _fresh(self) -> str:
        # Imported here: Google's library takes long to import, and few deployments need it.
        import google.auth
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        try:
            if self._credentials is None:
                self._credentials, _ = google.auth.default(scopes=[SCOPE])
            if not self._credentials.valid:
                self._credentials.refresh(Request())
        except GoogleAuthError as error:
            raise ReplicaUnavailable(f"no Google access token: {error}") from error
        return str(self._credentials.token)


class VertexReplica(Replica):
    """One call at a time to an endpoint, which distributes calls to its own replicas.

    An endpoint returns neither a fingerprint, as its replicas may differ, nor warnings about truncated prompts.
    """

    def __init__(
        self,
        address: str,
        client: httpx.AsyncClient,
        card: ModelCard | None,
        token: Token,
        *,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        readers: anyio.CapacityLimiter | None = None,
    ) -> None:
        """address: vertex+https://HOST/v1/projects/P/locations/L/endpoints/E; a fragment is ignored.

        card: of the model behind an endpoint of the last release, which does not tell its models.
        max_answer_bytes: the size of an answer that the endpoint can send.
        """
        super().__init__(address, client, readers)
        self._card = card
        self._models: tuple[ModelAnswer, ...] = ()
        self._asked_at = float("-inf")
        self._predict_url = urldefrag(address.removeprefix(PREFIX)).url + ":predict"
        self._token = token
        self._max_answer_bytes = max_answer_bytes

    async def models(self) -> tuple[ModelAnswer, ...]:
        """The models that the endpoint tells, now and then, as long as there is a token. Raises ReplicaUnfit."""
        try:
            await self._token()
            if anyio.current_time() - self._asked_at > ASK_AGAIN_S:
                self._models, self._asked_at = await self._ask(), anyio.current_time()
        except (ReplicaUnavailable, ReplicaLost, ReplicaBusy, WalkFailed) as failure:
            raise ReplicaUnfit(str(failure)) from failure
        return self._models

    async def _ask(self) -> tuple[ModelAnswer, ...]:
        """Ask the endpoint for its models. Raises what `_call` raises."""
        try:
            [told] = json.loads(await self._call([{"models": True}]))["predictions"]
            return tuple(
                model.model_copy(update={"fingerprint": UNKNOWN}) for model in ModelsAnswer.model_validate(told).models
            )
        except (WalkFailed, ValueError, TypeError, KeyError, RecursionError) as error:
            if self._card is None:
                raise ReplicaLost(f"the endpoint does not tell its models: {error}") from error
            return (ModelAnswer(card=self._card, fingerprint=UNKNOWN),)

    async def render(
        self,
        recipe: Recipe,
        fractions: tuple[float, ...],
        pictures: Pictures = NO_PICTURES,
        *,
        extras: bool = False,  # noqa: ARG002
    ) -> AsyncGenerator[Head | RenderedExtra | RenderedFrame]:
        """A head, then the frames, as many per call as fit into an answer. Endpoints make no extras.

        Raises ReplicaBusy, ReplicaUnavailable, ReplicaLost, and WalkFailed if no replica can render this.
        """
        if pictures:
            pictures = await self.in_thread(_small, pictures)
        size = max(1, self._max_answer_bytes // (recipe.width * recipe.height * BYTES_PER_PIXEL))
        for first in range(0, len(fractions), size):
            frames = await self._predict(recipe, fractions[first : first + size], pictures)
            if not first:
                yield Head(model=recipe.model, revision=recipe.revision, fingerprint=UNKNOWN)
            for frame in frames:
                yield frame

    async def _predict(self, recipe: Recipe, fractions: tuple[float, ...], pictures: Pictures) -> list[RenderedFrame]:
        body = render_request(recipe, [], pictures)
        del body["fractions"]
        first, *others = fractions
        # It is enough if one of the instances has the pictures.
        instances = [{**body, "fraction": first}]
        instances += [{"recipe": body["recipe"], "fraction": fraction} for fraction in others]
        answer = await self._call(instances)
        return await self.in_thread(_frames, answer, len(fractions), recipe)

    async def _call(self, instances: list[dict[str, Any]]) -> bytes:
        """The endpoint's answer to instances. Raises what `render` raises."""
        headers = {"Authorization": f"Bearer {await self._token()}"}
        try:
            answer = await self._client.post(self._predict_url, json={"instances": instances}, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ReplicaUnavailable(repr(error)) from error
        except httpx.HTTPError as error:
            raise ReplicaLost(repr(error)) from error
        if answer.status_code != 200:
            raise _refusal(answer)
        return answer.content


def _small(pictures: Pictures) -> Pictures:
    return {picture: fitted(file, MAX_PICTURE_BYTES) for picture, file in pictures.items()}


def _refusal(answer: httpx.Response) -> Exception:
    """The exception for an answer other than 200, from Google's front end or from the model behind it."""
    if answer.status_code in (401, 403, 404):
        # No rights, or no endpoint: the same for every shard, until an operator changes it.
        return ReplicaUnavailable(f"{answer.status_code}: {answer.text[:200]}")
    return refusal(answer)


def _frames(answer: bytes, expected: int, recipe: Recipe) -> list[RenderedFrame]:
    """The frames of an answer, with valid pictures. Raises ReplicaLost."""
    try:
        frames = [read_line(line) for line in json.loads(answer)["predictions"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ReplicaLost(f"unreadable answer: {error!r}") from error
    found = [frame for frame in frames if isinstance(frame, RenderedFrame)]
    if len(found) != expected:
        raise ReplicaLost(f"{len(found)} frames for {expected} instances")
    for frame in found:
        check_picture(frame.png, recipe)
    return found
