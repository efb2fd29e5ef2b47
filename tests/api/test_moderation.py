"""Moderation of the public gallery: hidden walks, purged walks and blocked words."""

from contextlib import aclosing
from pathlib import Path

import pytest

from momalisa_api.app import create_app, open_bucket
from momalisa_api.problems import PromptBlocked, WalkNotFound
from momalisa_api.store.erasures import Erasures
from momalisa_api.store.gallery import Gallery
from momalisa_api.store.schema import opened
from momalisa_api.web.blocklist import Blocklist
from tests.support.factories import ended, running, spec

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 5, "spacing": "uniform"}


def objects(settings) -> set[str]:
    root = Path(settings.bucket)
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


async def test_a_hidden_walk_is_not_in_the_gallery_but_its_url_still_works(settings, fleet):
    """Hiding a walk must not break links to it."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        async with opened(settings.database_url) as engine:
            await Gallery(engine).hide(walk["id"])
        await client.post("/api/v1/walks", json=REQUEST)
        assert (await client.put(walk["url"] + "/request", json={"listed": True})).json() == {
            "mine": True,
            "listed": True,
        }
        assert (await client.get("/api/v1/walks")).json()["walks"] == []
        assert (await client.get(walk["url"] + "/walk.gif")).status_code == 200


async def test_a_purge_deletes_everything_that_other_walks_do_not_use(settings, fleet):
    """Walks share frames: the other walks keep all of theirs."""
    async with running(settings, fleet) as client:
        short = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        long = await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "frames": 9})).json())
        other = await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "seed": 1})).json())
        async with opened(settings.database_url) as engine, aclosing(open_bucket(settings)) as bucket:
            gone = await Erasures(engine, bucket).purge(long["id"])
            assert gone == 5 + 4, "five films, and the four frames that only the longer walk had"
            with pytest.raises(WalkNotFound):
                await Erasures(engine, bucket).purge(long["id"])
        assert (await client.get(long["url"])).status_code == 404
        for walk in (short, other):
            for index in range(5):
                assert (await client.get(f"{walk['url']}/frames/{index}.png")).status_code == 200
            assert (await client.get(walk["url"] + "/walk.gif")).status_code == 200
    assert not any(long["id"] in name for name in objects(settings))


@pytest.mark.parametrize(
    ("prompt", "refused"),
    [("a RED\nDragon!", True), ("the red  dragon", True), ("red dragonfly", False), ("mad", True), ("madly", False)],
)
async def test_blocked_words_are_refused_as_whole_words_and_are_not_named(settings, fleet, tmp_path, prompt, refused):
    """Naming the word would help to circumvent the list; a part of a word is not a match."""
    blocklist = tmp_path / "blocklist"
    blocklist.write_text("# not here\nred dragon\n\nmad\n")
    async with running(settings.model_copy(update={"blocklist": blocklist}), fleet) as client:
        answer = await client.post("/api/v1/walks", json={**REQUEST, "start": prompt})
        assert answer.status_code == (422 if refused else 201)
        if refused:
            assert answer.json()["type"] == "urn:momalisa:problem:prompt-blocked"
            assert "dragon" not in answer.text
            query = {"start": "a", "end": prompt}
            assert (await client.get("/api/v1/walk", params=query)).status_code == 422


@pytest.mark.parametrize(
    ("line", "prompt"),
    [
        ("\ufeffdragon", "a dragon"),
        ("cafe\u0301", "a caf\u00e9"),
        ("caf\u00e9", "a CAFE\u0301"),
        ("dragon", "a \uff24\uff32\uff21\uff27\uff2f\uff2e"),
        ("\uff44\uff52\uff41\uff47\uff4f\uff4e", "a dragon"),
        ("stra\u00dfe", "a STRASSE"),
        ("\ufb01re", "a FIRE"),
        ("dragon", "a dra\u00adg\u200bon"),
        ("dragon", "a dr\u034fag\ufe0fo\u3164n"),
        ("dra\ufe0egon", "a dragon"),
        ("red dragon", "a red\u00a0dragon"),
    ],
)
def test_a_blocked_word_is_found_in_every_unicode_form(tmp_path, line, prompt):
    """Otherwise a look-alike gets through: a byte order mark, letters in pieces or of full width, soft hyphens."""
    path = tmp_path / "blocklist"
    path.write_bytes(f"{line}\n".encode())
    with pytest.raises(PromptBlocked):
        Blocklist.read(path).check(spec((prompt, "a giraffe")))
    Blocklist.read(path).check(spec(("a cave", "a giraffe")))


def test_a_comment_after_a_byte_order_mark_blocks_nothing(tmp_path):
    """Nor does a file without phrases."""
    path = tmp_path / "blocklist"
    path.write_bytes("\ufeff# dragon\n  # giraffe\n".encode())
    Blocklist.read(path).check(spec(("a dragon", "a # giraffe")))


def test_a_line_of_invisible_characters_blocks_nothing(tmp_path):
    """Byte order marks are left between files that were put together."""
    path = tmp_path / "blocklist"
    path.write_bytes("dragon\n\ufeff\n\u200b\u00ad\n".encode())
    Blocklist.read(path).check(spec(("a wave, blue", "(a giraffe)")))
    with pytest.raises(PromptBlocked):
        Blocklist.read(path).check(spec(("a dragon", "a giraffe")))


@pytest.mark.parametrize("content", ["caf\u00e9\n".encode("latin-1"), "caf\u00e9\n".encode("utf-16"), None])
def test_a_blocklist_that_cannot_be_read_ends_the_start_with_a_sentence(settings, tmp_path, content):
    """A deployment that blocks nothing must not start, and an operator should not have to read a traceback."""
    path = tmp_path / "blocklist"
    if content:
        path.write_bytes(content)
    with pytest.raises(SystemExit, match=r"blocklist.*\n(Save it in UTF-8|Set MOMALISA_BLOCKLIST)"):
        create_app(settings.model_copy(update={"blocklist": path}))
