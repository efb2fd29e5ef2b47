"""The contract over a real socket: frames in order, errors that say what is allowed, a replica that survives them."""

from __future__ import annotations

import base64
import gc
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path

import anyio
import httpx
import pytest
import torch
from PIL import Image

from momalisa_model.app import create_app
from momalisa_model.problems import Invalid, Problem
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.request_check import check
from momalisa_model.wire import FrameLine, Head, ModelAnswer, RenderRequest
from tests.support.model_server import Server, recipe_for, wait_until

JSON = {"content-type": "application/json"}


@contextmanager
def whenever_the_unet_runs(server: Server, do: Callable[[], None]) -> Iterator[None]:
    """Run something before each denoising step, in a hook of torch."""
    hook = server.unet.register_forward_pre_hook(lambda *_: do())
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def failing_once(server: Server, error: Exception, after: int = 0) -> Iterator[None]:
    """One denoising step raises the error, after so many good ones; all later ones are good again."""
    steps = iter([*[None] * after, error])

    def fail() -> None:
        if due := next(steps, None):
            raise due

    with whenever_the_unet_runs(server, fail):
        yield


@contextmanager
def held_device(server: Server) -> Iterator[threading.Event]:
    """Each denoising step waits until the block ends. Yields an event that is set when the first step begins."""
    begun, released = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert released.wait(20)

    with whenever_the_unet_runs(server, wait):
        try:
            yield begun
        finally:
            released.set()


def in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def problem_of(answer: httpx.Response, status: int, slug: str) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == f"urn:momalisa:problem:{slug}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    return problem


def test_frames_are_lines_in_the_requested_order(server):
    """The first line names the model; each other line is a picture of the requested size."""
    answer = server.render([0.5, 0.0, 1.0, 0.25])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/jsonl"
    head, *frames = [json.loads(line) for line in answer.text.splitlines()]
    assert Head.model_validate_json(json.dumps(head)).fingerprint == server.ready.answer.fingerprint
    assert [FrameLine(**frame).fraction for frame in frames] == [0.5, 0.0, 1.0, 0.25]
    picture = Image.open(io.BytesIO(base64.b64decode(frames[0]["png"])))
    assert (picture.format, picture.size) == ("PNG", (32, 32))


def test_the_model_describes_itself(server):
    """The api compares this with its own card, and the fingerprint tells which replicas return equal bytes."""
    answer = ModelAnswer.model_validate_json(server.get("/v1/model").text)
    assert answer.card.model == "plain"
    assert answer.made_of["weights"] == answer.card.revision
    assert answer.made_of["micro_batch"] == answer.card.micro_batch == 4
    assert answer.features == ("early_blend", "pictures", "restyle", "clip")


def test_the_port_opens_before_the_weights_are_loaded(settings_for):
    """Kubernetes must see a live process while gigabytes are loaded. This app never starts to load."""
    transport = httpx.ASGITransport(app=create_app(settings_for("plain")))

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
            return [await client.get(path) for path in ("/healthz", "/readyz", "/v1/model", "/metrics")]

    alive, ready, model, metrics = anyio.run(ask)
    assert alive.status_code == metrics.status_code == 200
    for refused in (ready, model):
        problem_of(refused, 503, "not-ready")
        assert refused.headers["retry-after"]


@pytest.mark.parametrize(
    ("fault", "expected"), [("missing", "MODEL_ID"), ("card", "model card"), ("no card", "model card")]
)
def test_a_replica_that_cannot_become_ready_says_why(settings_for, tmp_path, fault, expected):
    """The process keeps running, so that an operator can read the reason at /readyz."""
    card = tmp_path / "card.json"
    card.write_text('{"micro_batch": 0}')
    settings = {
        "missing": lambda: settings_for(str(tmp_path / "nowhere")),
        "card": lambda: settings_for("plain", model_card=card),
        "no card": lambda: settings_for("plain", model_card=tmp_path / "none.json"),
    }[fault]()
    with Server(settings, ready=False) as server:
        wait_until(lambda: "being loaded" not in server.get("/readyz").text)
        problem = problem_of(server.get("/readyz"), 503, "not-ready")
        assert server.metric("ready") == 0
    assert expected in problem["detail"]
    assert str(tmp_path) not in json.dumps(problem), "paths of the machine belong in its log only"


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({"width": 33}, "multiple of 8 from 16 to 64"),
        ({"height": 4096}, "multiple of 8 from 16 to 64"),
        ({"num_inference_steps": 0}, "greater than or equal to 1"),
        ({"num_inference_steps": 999}, "from 1 to 100"),
        ({"num_inference_steps": 2.5}, "integer"),
        ({"guidance_scale": -1}, "greater than or equal to 0"),
        ({"guidance_scale": float("nan")}, "finite"),
        ({"guidance_scale": float("inf")}, "finite"),
        ({"scheduler": "EulerAncestral"}, "one of PNDM, DDIM"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"seed": 2**32}, "less than or equal to 4294967295"),
        ({"seed": True}, "integer"),
        ({"start": ""}, "at least 1 character"),
        ({"end": "x" * 1001}, "at most 1000 characters"),
        ({"start": None}, "string"),
        ({"strength": 0.5}, "null without pictures"),
        ({"strength": 1.1}, "less than or equal to 1"),
        ({"end_picture": "AB" * 32}, "match pattern"),
        ({"prompt": "x"}, "is not a known field"),
        ({"blend": "late"}, "'early'"),
        ({"guidance_interval": [0.5, 0.5]}, "less than"),
        ({"guidance_interval": [0, 1.5]}, "less than or equal to 1"),
    ],
)
def test_an_invalid_recipe_gets_the_allowed_values(server, changes, allowed):
    """Each error names the field and its limits."""
    body = {"recipe": recipe_for(server.ready, **changes), "fractions": [0.5]}
    answer = httpx.post(server.url + "/v1/render", content=json.dumps(body), headers=JSON)
    problem = problem_of(answer, 422, "invalid-request")
    assert next(iter(changes)) in problem["detail"]
    assert any(allowed in error["detail"] for error in problem["errors"]), problem


@pytest.mark.parametrize(
    ("fractions", "allowed"),
    [
        ([], "at least 1 item"),
        ([0.5] * 10_000, "at most 256 items"),
        ([1.5], "less than or equal to 1"),
        ([-0.1], "greater than or equal to 0"),
        ([float("nan")], "finite"),
        (["0.5"], "number"),
        (0.5, "list"),
    ],
)
def test_invalid_fractions_get_the_allowed_values(server, fractions, allowed):
    """NaN is sent as raw JSON, as Python programs write it."""
    body = {"recipe": recipe_for(server.ready), "fractions": fractions}
    answer = httpx.post(server.url + "/v1/render", content=json.dumps(body), headers=JSON)
    problem = problem_of(answer, 422, "invalid-request")
    assert any(allowed in error["detail"] for error in problem["errors"]), problem


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"recipe": "\\ud800"}', b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_cannot_be_parsed_gets_a_problem_document(server, body):
    """Invalid JSON, invalid text, and JSON that is nested too deeply for a parser."""
    answer = httpx.post(server.url + "/v1/render", content=body, headers=JSON)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    detail = answer.json()["detail"]
    assert any(word in detail for word in ("JSON object", "recipe", "/openapi.json")), "the error must say what to do"


def test_a_missing_content_type_is_named(server):
    """A common mistake with curl."""
    answer = httpx.post(server.url + "/v1/render", data={"recipe": "x"})
    assert "Content-Type: application/json" in problem_of(answer, 422, "invalid-request")["detail"]


def test_all_invalid_fields_are_named_at_once(server):
    """Otherwise a caller would need one attempt for each mistake."""
    answer = server.render([0.5], width=33, scheduler="none")
    problem = problem_of(answer, 422, "invalid-request")
    assert [error["field"] for error in problem["errors"]] == ["recipe.width", "recipe.scheduler"]


def test_a_feature_that_a_replica_does_not_have_is_refused(server):
    """Rendered without it, the frame would be stored under the wrong recipe."""
    request = RenderRequest(recipe=BetweenRecipe(**recipe_for(server.ready, blend="early")), fractions=[0.5])
    check(request, server.ready.answer, 16)
    with pytest.raises(Invalid, match=r"recipe\.blend"):
        check(request, server.ready.answer.model_copy(update={"features": ()}), 16)


def test_a_prompt_of_a_megabyte_is_refused(server):
    """Before it is parsed. The error names the allowed number of bytes."""
    answer = server.render([0.5], start="x" * 1_000_000)
    assert str(server.app.state.replica.max_body_bytes()) in problem_of(answer, 413, "body-too-large")["detail"]


def test_a_body_without_end_is_refused(server):
    """Without Content-Length, only counting can stop it."""

    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield b" " * 10_000

    answer = httpx.post(server.url + "/v1/render", content=endless(), timeout=30)
    problem_of(answer, 413, "body-too-large")


def test_a_recipe_for_other_weights_gets_the_name_of_the_loaded_ones(server):
    """A frame of one revision must never be stored under the name of another."""
    problem = problem_of(server.render([0.5], revision="f" * 40), 409, "wrong-model")
    card = server.ready.answer.card
    assert (problem["model"], problem["revision"]) == (card.model, card.revision)


def test_refusals_of_the_framework_are_problem_documents(server):
    """All errors have one format for every client; their type is about:blank, because RFC 9457 defines it so."""
    answers = [(server.get("/nowhere"), 404), (server.get("/v1/render"), 405)]
    answers.append((httpx.post(server.url + "/v1/render", content=b"[" * 100_000, headers=JSON), 400))
    for answer, status in answers:
        problem = answer.json()
        assert (answer.status_code, problem["status"], problem["type"]) == (status, status, "about:blank")
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["title"] == HTTPStatus(status).phrase
        assert "/openapi.json" in problem["detail"], "the error must say what to do"


def test_prompts_are_data(server):
    """Unicode, emoji, newlines, markup, zero bytes and the tokenizer's own markers can be rendered."""
    for prompt in ("ein Bär 🐻\n\n<b>../../etc</b>", "\x00", "<|endoftext|>", " ", "\u202e\ufeff"):
        assert server.render([0.5], start=prompt).status_code == 200


def test_the_truncated_part_of_a_prompt_is_in_the_first_line(server):
    """A prompt is never cut without a warning."""
    answer = server.render([0.5], end="abcdefghijklmnopqr ignored")
    (warning,) = json.loads(answer.text.splitlines()[0])["warnings"]
    assert (warning["prompt"], warning["truncated"]) == ("end", "ignored")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12"),
        RuntimeError("could not create a memory object"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    ],
)
def test_out_of_memory_is_507_and_the_next_request_works(server, error):
    """A request that is too large must not stop the replica."""
    with failing_once(server, error):
        problem = problem_of(server.render([0.5]), 507, "out-of-memory")
    assert "model card" in problem["detail"]
    assert server.render([0.5]).status_code == 200
    assert server.metric("out_of_memory_total") >= 1


def test_invalid_numbers_are_an_error_of_the_recipe(server):
    """float16 overflows in some models. It would on every replica, so a retry does not help: a 4xx."""
    factors = iter([float("nan")])
    hook = server.unet.register_forward_hook(lambda _unet, _given, noise: (noise[0] * next(factors, 1.0),))
    try:
        problem_of(server.render([0.5]), 422, "not-a-number")
    finally:
        hook.remove()


def test_the_contract_page_lists_every_problem():
    """Authors of clients read docs/model-contract.md."""
    page = (Path(__file__).parents[2] / "docs" / "model-contract.md").read_text()
    answered = [problem for problem in Problem.__subclasses__() if problem.slug != "unsuitable-model"]
    assert [problem.slug for problem in answered if f"`{problem.slug}`" not in page] == []


def test_a_bug_is_500_without_internal_details(server):
    """The log has the details; the caller should retry."""
    with failing_once(server, ZeroDivisionError("a secret detail")):
        problem = problem_of(server.render([0.5]), 500, "internal")
    assert "secret" not in json.dumps(problem)
    assert server.render([0.5]).status_code == 200


def test_an_error_after_the_first_frame_is_the_last_line(server):
    """The status was sent already; the frames before the error are valid."""
    with failing_once(server, torch.OutOfMemoryError("CUDA out of memory."), after=3):
        answer = server.render([0.0, 0.2, 0.4, 0.6, 0.8], scheduler="DDIM", num_inference_steps=3)
    assert answer.status_code == 200
    _head, *frames, last = [json.loads(line) for line in answer.text.splitlines()]
    assert [frame["fraction"] for frame in frames] == [0.0, 0.2, 0.4, 0.6]
    assert last["problem"]["status"] == 507


def test_a_full_queue_is_503_with_retry_after(settings_for):
    """One shard is on the device and one in the queue; the third is refused."""
    with Server(settings_for("plain", queue_length=1)) as server:
        answers: list[httpx.Response] = []
        with held_device(server) as begun:
            shards = [in_background(lambda: answers.append(server.render([0.5]))) for _ in range(2)]
            assert begun.wait(20)
            wait_until(lambda: server.metric("queue_depth") == 2)
            refused = server.render([0.5])
            assert server.get("/healthz").status_code == 200
        for shard in shards:
            shard.join()
        problem_of(refused, 503, "queue-full")
        assert int(refused.headers["retry-after"]) >= 1
        assert [answer.status_code for answer in answers] == [200, 200]


def post_and_disconnect(server: Server, meanwhile: Callable[[], object]) -> None:
    """Send a request with many steps, run `meanwhile`, and close the connection without reading."""
    recipe = recipe_for(server.ready, num_inference_steps=100, scheduler="DDIM")
    body = json.dumps({"recipe": recipe, "fractions": [0.1, 0.9]}).encode()
    head = b"POST /v1/render HTTP/1.1\r\nHost: replica\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(server.uvicorn.servers[0].sockets[0].getsockname()) as connection:
        connection.sendall(head % len(body) + body)
        meanwhile()


def test_a_disconnect_cancels_between_two_steps(server):
    """A caller that left must not use the device. This one leaves before the response begins."""
    before, steps = server.metric("cancelled_total"), []
    with whenever_the_unet_runs(server, lambda: steps.append(1)):
        post_and_disconnect(server, lambda: wait_until(lambda: len(steps) >= 2))
        wait_until(lambda: server.metric("cancelled_total") == before + 1)
    assert len(steps) < 100
    wait_until(lambda: server.metric("queue_depth") == 0)
    assert server.render([0.5]).status_code == 200


def test_a_disconnect_in_the_queue_frees_the_slot(server):
    """A caller that leaves while it waits never uses the device."""
    with held_device(server) as begun:
        first = in_background(lambda: server.render([0.5]))
        assert begun.wait(20)
        post_and_disconnect(server, lambda: wait_until(lambda: server.metric("queue_depth") == 2))
        wait_until(lambda: server.metric("queue_depth") == 1)
    first.join()


def test_metrics_count_shards_and_frames(server):
    """The autoscaler and the alerts read these values."""

    def scrape() -> dict[str, float]:
        lines = [line for line in server.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    before = scrape()
    assert server.render([i / 5 for i in range(6)]).status_code == 200
    after = scrape()
    grown = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    assert grown.pop('momalisa_model_shards_total{outcome="done"}') == 1
    assert grown.pop('momalisa_model_frames_total{model="plain"}') == 6, "padding does not count"
    assert grown.pop("momalisa_model_shard_seconds_count") == 1
    assert grown.pop('momalisa_model_frame_seconds_count{model="plain"}') == 6
    shard = grown.pop("momalisa_model_shard_seconds_sum")
    frames = grown.pop('momalisa_model_frame_seconds_sum{model="plain"}')
    assert 0 < frames <= shard
    assert {name.split("{")[0] for name in grown} <= {
        "momalisa_model_packing_wait_seconds_total",
        "momalisa_model_shard_seconds_bucket",
        "momalisa_model_frame_seconds_bucket",
    }
    assert after["momalisa_model_ready"] == 1
    assert after["momalisa_model_queue_depth"] == 0


@contextmanager
def never_reading_caller(server: Server) -> Iterator[None]:
    """A caller with a very small buffer that requests 256 frames and never reads."""
    recipe = recipe_for(server.ready, width=64, height=64, num_inference_steps=1, scheduler="DDIM")
    body = json.dumps({"recipe": recipe, "fractions": [i / 255 for i in range(256)]}).encode()
    head = b"POST /v1/render HTTP/1.1\r\nHost: replica\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect(server.uvicorn.servers[0].sockets[0].getsockname())
        connection.sendall(head % len(body) + body)
        yield


def test_unread_responses_are_limited_in_number_and_time(settings_for):
    """Unread frames stay in memory: the queue limits their number, and a timeout their time."""
    with Server(settings_for("plain", queue_length=1, send_timeout_s=2)) as server, ExitStack() as callers:
        callers.enter_context(never_reading_caller(server))
        callers.enter_context(never_reading_caller(server))
        wait_until(lambda: server.metric("queue_depth") == 2)
        problem_of(server.render([0.5]), 503, "queue-full")
        wait_until(lambda: server.metric("shards_total", outcome="done") == 1)
        assert server.metric("queue_depth") == 2, "unread frames keep their slot"
        wait_until(lambda: server.metric("queue_depth") == 0, 60)
        held = [thing for thing in gc.get_objects() if type(thing) is FrameLine]
        assert len(held) < 10, "only frames that were being sent may be left"
        assert server.metric("shards_total", outcome="done") == 2
        assert server.render([0.5]).status_code == 200
