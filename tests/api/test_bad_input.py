"""Invalid requests get a problem document that says what is valid, and have no other effect."""

import json

import pytest

from tests.support.factories import ended, running

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 1}, "frames must be greater than or equal to 2"),
        ({"frames": 10_000}, "2 to 241"),
        ({"frames": True}, "frames must be a number"),
        ({"guidance_scale": True}, "guidance_scale must be a number"),
        ({"width": 33}, "16 to 512 in steps of 8"),
        ({"height": 100_000}, "16 to 512 in steps of 8"),
        ({"steps": 0}, "steps must be greater than or equal to 1"),
        ({"steps": 51}, "1 to 50"),
        ({"seed": -1}, "seed must be greater than or equal to 0"),
        ({"seed": 2**32}, f"seed must be less than {2**32}"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be"),
        ({"scheduler": "EulerAncestral"}, "DDIMScheduler, UniPCMultistepScheduler"),
        ({"start": ""}, "1 to 1000 characters"),
        ({"start": " \n "}, "1 to 1000 characters"),
        ({"start": "x" * 1001}, "1 to 1000 characters"),
        ({"end": "nul\0"}, "NUL"),
        ({"end": "half a character \ud800"}, "lone surrogates"),
        ({"negative_prompt": "\udfff"}, "lone surrogates"),
        ({"\ud800": 1}, "field names in valid Unicode"),
        ({"end": None}, "start and end are both required"),
        ({"stops": ["a", "b"]}, "use either stops"),
        ({"start": None, "end": None, "stops": ["a"]}, "2 to 8 prompts"),
        ({"start": None, "end": None, "stops": list("abcdefghi"), "frames": 25}, "2 to 8 prompts"),
        ({"start": None, "end": None, "stops": list("abcdef")}, "6 to 241"),
        ({"surprise": 1}, "surprise is not a known field"),
    ],
)
async def test_an_invalid_request_gets_a_problem_with_the_valid_values(settings, fleet, changes, message):
    """The sentence names the field and its valid values; no replica gets the request."""
    async with running(settings, fleet) as client:
        body = json.dumps({**REQUEST, **changes})
        answer = await client.post("/api/v1/walks", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert {"type", "title", "status", "detail"} <= problem.keys()
        assert message in problem["detail"]
        assert (await client.get("/api/v1/walks")).json()["walks"] == []
    assert fleet.frames_rendered == 0


@pytest.mark.parametrize("body", [b"{", b"[" * 60_000, b'{"seed": ' + b"9" * 5000 + b"}", b"\xff\xfe", b"null"])
async def test_a_body_that_is_not_a_request_is_refused(settings, fleet, body):
    """Broken, deeply nested and unreadable JSON are client errors, not server errors."""
    async with running(settings, fleet) as client:
        answer = await client.post("/api/v1/walks", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert "JSON" in answer.json()["detail"], "what to do"
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_body_that_never_ends_is_cut_off(settings, fleet):
    """A megabyte is refused while it arrives, with or without a Content-Length."""

    async def endless():
        for _ in range(1000):
            yield b"x" * 1024

    async with running(settings, fleet) as client:
        sized = await client.post("/api/v1/walks", content=b"x" * 1_000_000)
        chunked = await client.post("/api/v1/walks", content=endless())
    assert sized.status_code == chunked.status_code == 413
    assert "262,144 bytes" in chunked.json()["detail"]


@pytest.mark.parametrize(
    "prompt",
    ["<script>alert(1)</script>", "../../etc/passwd", "two\nlines", "😀 ünïcödé ﷽", "'; DROP TABLE walks;--", "%00%2e"],
)
async def test_hostile_prompts_are_data(settings, fleet, prompt):
    """They are returned unchanged in JSON, and have no effect on files or the database."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "start": prompt})).json())
        assert walk["state"] == "done"
        assert walk["spec"]["stops"][0] == prompt
        name = (await client.get(walk["url"] + "/walk.gif")).headers["content-disposition"]
        assert name.isascii()
        assert len(name.split('"')[1]) <= 80


async def test_prompts_that_differ_only_in_encoding_are_the_same(settings, fleet):
    """Composed or decomposed Unicode, with or without white space around: the same walk."""
    async with running(settings, fleet) as client:
        one = await client.post("/api/v1/walks", json={**REQUEST, "start": "caf\u00e9"})
        same = await client.post("/api/v1/walks", json={**REQUEST, "start": " cafe\u0301\n"})
    assert one.json()["id"] == same.json()["id"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/walks/" + "0" * 32, 404),
        ("GET", "/api/v1/walks/nonsense", 422),
        ("GET", "/api/v1/walks/" + "0" * 32 + "/events", 404),
        ("GET", "/api/v1/walks/" + "0" * 32 + "/walk.gif", 404),
        ("GET", "/api/v1/walks/" + "0" * 32 + "/secret.txt", 404),
        ("GET", "/api/v1/nowhere", 404),
        ("PUT", "/api/v1/walks", 405),
        ("GET", "/api/v1/walk", 422),
        ("GET", "/api/v1/walk?start=a&end=b&wait=26", 422),
        ("GET", "/api/v1/walks?before=0", 422),
    ],
)
async def test_every_refusal_is_a_problem_document(settings, fleet, method, path, status):
    """Scripts need only one error format, from every layer of the server."""
    async with running(settings, fleet) as client:
        answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/api/v1/walks", {"GET", "HEAD", "POST"}),
        ("/api/v1/walks/" + "0" * 32, {"GET", "HEAD", "DELETE"}),
        ("/api/v1/walks/" + "0" * 32 + "/request", {"GET", "HEAD", "PUT"}),
        ("/api/v1/walks/" + "0" * 32 + "/frames/0.png", {"GET", "HEAD"}),
        ("/api/v1/walk", {"GET", "HEAD"}),
        ("/healthz", {"GET", "HEAD"}),
    ],
)
async def test_allow_lists_all_methods_of_a_path(settings, fleet, path, methods):
    """Routes that share a path would each name only their own."""
    async with running(settings, fleet) as client:
        answers = [await client.request(method, path) for method in ("OPTIONS", "PATCH")]
    for answer in answers:
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == methods
