"""Walk specs, fake replicas that answer from memory and fail on demand, and a whole API on top of them."""

import base64
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
from PIL import Image

from momalisa_api import app as assembler
from momalisa_api.settings import Settings
from momalisa_api.walks.between import BetweenSpec
from momalisa_api.walks.extras import EXTRA_TYPES
from momalisa_api.walks.model_card import ModelCard, ModelKey
from momalisa_api.walks.models import Models, RegisteredModel
from momalisa_api.walks.rounds import first_layout
from momalisa_api.walks.spec import Frame

CARD: dict[str, Any] = {
    "model": "test-model",
    "revision": "1",
    "micro_batch": 4,
    "width": 32,
    "height": 32,
    "size_multiple": 8,
    "min_size": 16,
    "max_size": 512,
    "num_inference_steps": 4,
    "max_steps": 50,
    "guidance_scale": 4.0,
    "negative_prompt": "",
    "scheduler": "DDIMScheduler",
    "schedulers": ["DDIMScheduler", "UniPCMultistepScheduler"],
    "token_limit": 20,
    "about": {"title": "Test model", "examples": [["a red star", "a blue wave"]]},
}


KEY = ModelKey(CARD["model"], CARD["revision"])


class MemoryModels:
    """A registry of models without a catalogue."""

    def __init__(self, *cards: dict[str, Any]) -> None:
        self._cards = {card["model"]: ModelCard.model_validate(card) for card in cards or (CARD,)}

    @property
    def known(self) -> Models:
        return Models(map(RegisteredModel, self._cards.values()))

    async def register(self, card: ModelCard, instead_of: ModelCard | None = None) -> None:
        if self._cards.setdefault(card.model, card) == instead_of:
            self._cards[card.model] = card


def painted(recipe: dict[str, Any], fraction: float) -> bytes:
    """A picture that depends only on recipe and fraction."""
    shade = round(255 * fraction)
    picture = Image.new("RGB", (recipe["width"], recipe["height"]), (shade, recipe.get("seed", 0) % 256, 255 - shade))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def as_png(file: bytes) -> bytes:
    """A picture as a PNG file."""
    out = io.BytesIO()
    Image.open(io.BytesIO(file)).save(out, "PNG")
    return out.getvalue()


class AnswerStream(httpx.AsyncByteStream):
    """A response from a generator of bytes. A replica notices a cancelled request when it is closed."""

    def __init__(self, chunks: AsyncIterator[bytes], closed: Callable[[], None]) -> None:
        self._chunks = chunks
        self._closed = closed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            yield chunk

    async def aclose(self) -> None:
        self._closed()


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


@dataclass
class FakeReplica:
    """One fake replica. Every attribute can be changed while it runs."""

    card: dict[str, Any] = field(default_factory=lambda: dict(CARD))
    others: tuple[dict[str, Any], ...] = ()
    of_last_release: bool = False
    fingerprint: str = "0" * 16
    features: tuple[str, ...] = ()
    ready: bool = True
    reachable: bool = True
    frame_s: float = 0.0
    stalled: bool = False
    busy_answers: int = 0
    refusal: tuple[int, str] | None = None
    refusals: int = 0
    breaks_on: str | None = None
    refuses: Callable[[float], bool] = lambda fraction: False
    dies_after: int | None = None
    garbage: dict[str, Any] | None = None
    warnings: list[dict[str, str]] = field(default_factory=list)
    flags: frozenset[float] = frozenset()
    paint: Callable[[dict[str, Any], float], bytes] = painted
    extras: dict[str, bytes] = field(default_factory=dict)
    extras_sent: int = 0
    pictures_sent: list[dict[str, str]] = field(default_factory=list)
    render_calls: list[tuple[dict[str, Any], list[float]]] = field(default_factory=list)
    sent: int = 0
    readiness_checks: int = 0
    reason: str = ""
    closed: int = 0

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if not self.reachable:
            raise httpx.ConnectError("connection refused")
        match request.url.path:
            case "/readyz":
                self.readiness_checks += 1
                return httpx.Response(200 if self.ready else 503, text=self.reason)
            case "/v1/model":
                return httpx.Response(200, json=self._model(self.card))
            case "/v1/models" if not self.of_last_release:
                return httpx.Response(200, json={"models": [self._model(card) for card in (self.card, *self.others)]})
            case "/v1/render":
                return self._render(json.loads(request.content))
        return httpx.Response(404)

    def _model(self, card: dict[str, Any]) -> dict[str, Any]:
        features = {"features": self.features} if self.features else {}
        return {"card": card, "fingerprint": self.fingerprint, "made_of": {}, **features}

    def _render(self, body: dict[str, Any]) -> httpx.Response:
        if self.busy_answers:
            self.busy_answers -= 1
            return httpx.Response(503, headers={"Retry-After": "0"}, json={"detail": "the queue is full"})
        recipe = body["recipe"]
        refusal = self.refusal
        loaded = [(card["model"], card["revision"]) for card in (self.card, *self.others)]
        if (recipe["model"], recipe["revision"]) not in loaded:
            refusal = 409, f"the loaded model is {self.card['model']}"
        if any(map(self.refuses, body["fractions"])):
            refusal = 422, "the fraction is not accepted"
        if self.breaks_on and recipe.get("start") == self.breaks_on:
            refusal = 500, "an illegal memory access was encountered"
        if refusal:
            self.refusals += 1
            return httpx.Response(refusal[0], json={"detail": refusal[1]})
        self.render_calls.append((recipe, body["fractions"]))
        self.pictures_sent.append(body.get("pictures", {}))
        if self.garbage:
            content = self.garbage["content"]
            return httpx.Response(
                200, headers=self.garbage.get("headers"), stream=AnswerStream(_once(content), self._close)
            )
        return httpx.Response(200, stream=AnswerStream(self._lines(body), self._close))

    def _close(self) -> None:
        self.closed += 1

    async def _lines(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        head = {"model": "test-model", "revision": "1", "fingerprint": self.fingerprint, "warnings": self.warnings}
        yield json.dumps(head).encode() + b"\n"
        for name, content in self.extras.items() if body.get("extras") else ():
            data = {"data": base64.b64encode(content).decode(), "media_type": EXTRA_TYPES[name.rpartition(".")[2]]}
            yield json.dumps({"extra": name, **data}).encode() + b"\n"
            self.extras_sent += 1
        sources = dict(zip(body["fractions"], body.get("sources", ()), strict=False))
        for fraction in body["fractions"]:
            await anyio.sleep(self.frame_s)
            if self.stalled:
                await anyio.sleep_forever()
            if self.dies_after is not None and self.sent >= self.dies_after:
                self.reachable = False
                raise httpx.ReadError("the replica died")
            self.sent += 1
            # The ends of a leg are its pictures, where it has any.
            end = body["recipe"].get({0.0: "start_picture", 1.0: "end_picture"}.get(fraction, ""))
            png = base64.b64encode(self.paint(body["recipe"], fraction)).decode()
            if fraction in sources:
                png = base64.b64encode(as_png(base64.b64decode(body["pictures"][sources[fraction]]))).decode()
            line = {"fraction": fraction, "png": body["pictures"][end] if end else png, "seconds": 0.1}
            mark = {"marked": fraction in self.flags} if self.flags else {}
            yield json.dumps(line | mark).encode() + b"\n"


class FakeFleet:
    """Fake replicas by host name, and a client whose transport reaches them."""

    def __init__(self) -> None:
        self.replicas: dict[str, FakeReplica] = {}

    def add(self, **traits: Any) -> FakeReplica:
        replica = self.replicas[f"replica-{len(self.replicas) + 1}"] = FakeReplica(**traits)
        return replica

    @property
    def addresses(self) -> str:
        return " ".join(f"http://{name}" for name in self.replicas)

    @property
    def frames_rendered(self) -> int:
        return sum(replica.sent for replica in self.replicas.values())

    async def answer(self, request: httpx.Request) -> httpx.Response:
        return await self.replicas[request.url.host].answer(request)

    def client(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.answer))


def write_card(folder: Path, card: dict[str, Any] = CARD) -> Path:
    path = folder / "card.json"
    path.write_text(json.dumps(card))
    return path


@asynccontextmanager
async def running(settings: Settings, fleet: FakeFleet) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API that renders with a fleet."""
    fleet.addresses or fleet.add()
    settings = settings.model_copy(update={"replicas": fleet.addresses})
    app = assembler.create_app(settings, make_client=fleet.client)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            yield client


@asynccontextmanager
async def client_at(client: httpx.AsyncClient, address: str) -> AsyncIterator[httpx.AsyncClient]:
    """Another client of the same API, without cookies, at another address."""
    running_already = client._transport
    assert isinstance(running_already, httpx.ASGITransport)
    transport = httpx.ASGITransport(app=running_already.app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as other:
        yield other


async def ended(client: httpx.AsyncClient, walk: dict[str, Any]) -> dict[str, Any]:
    """The walk once it is done, failed or cancelled."""
    with anyio.fail_after(20):
        while walk["state"] not in ("done", "failed", "cancelled"):
            await anyio.sleep(0.01)
            walk = (await client.get(walk["url"])).json()
    return walk


async def until_stalled(client: httpx.AsyncClient, walk: dict[str, Any], replica: FakeReplica) -> dict[str, Any]:
    """Stop the replica from sending. Returns the walk once all frames sent so far are stored."""
    replica.stalled = True
    with anyio.fail_after(5):
        while len(walk["frames_ready"]) < replica.sent:
            walk = (await client.get(walk["url"])).json()
    return walk


async def until_first_frame(client: httpx.AsyncClient, walk: dict[str, Any]) -> dict[str, Any]:
    """The walk once its first frame is stored."""
    with anyio.fail_after(5):
        while not walk["frames_ready"]:
            walk = (await client.get(walk["url"])).json()
    return walk


def spec(stops: tuple[str, ...] = ("a giraffe", "a battleship"), frames: int = 25, **changes: object) -> BetweenSpec:
    whole = {
        "stops": stops,
        "frames": frames,
        "spacing": "uniform",
        "effort": "balanced",
        "seed": 0,
        "negative_prompt": "",
        "width": 32,
        "height": 32,
        "steps": 4,
        "guidance_scale": 4.0,
        "scheduler": "DDIMScheduler",
        "model": "test-model",
        "revision": "1",
        "frame_ms": 80,
        "gif_there_and_back": True,
        "mp4_there_and_back": False,
    }
    return BetweenSpec.model_validate({**whole, **changes})


def frames_of(walk: BetweenSpec) -> tuple[Frame, ...]:
    """The frames of a walk whose first round is also its last."""
    layout = first_layout(walk)
    assert layout.settled
    return layout.frames(walk)
