"""docs/privacy.md: each of its sentences is a promise, and has a test that exists."""

import re

import pytest

from tests.support.processes import REPOSITORY

PAGE = (REPOSITORY / "docs" / "privacy.md").read_text()
# From the first heading to the table of places.
PROMISES = PAGE[PAGE.index("\n## Uploads") : PAGE.index("\n## Where it is")]
NAMED = re.compile(r"<!-- (tests/[\w/]+\.py)::(test_\w+) -->")


def sentences() -> list[tuple[str, list[tuple[str, str]]]]:
    """The list items: their text, and the tests that they name."""
    items = re.split(r"^- ", PROMISES, flags=re.MULTILINE)[1:]
    return [
        (re.sub(r"\s+", " ", re.sub(r"<!--.*?-->|^## .*", "", item, flags=re.M)).strip(), NAMED.findall(item))
        for item in items
    ]


def test_nothing_is_promised_outside_of_the_lists():
    """A paragraph between the lists would have no test."""
    for line in PROMISES.splitlines():
        assert not line or line.startswith(("## ", "- ", "  ")), line


@pytest.mark.parametrize(("text", "tests"), sentences())
def test_a_promise_is_one_sentence_with_a_test(text: str, tests: list[tuple[str, str]]):
    """A renamed test must take its sentence along, and a new sentence needs a test."""
    assert text.endswith(".")
    assert not re.search(r"[.!?] [A-Z]", text), "two sentences need two tests"
    assert tests, "no test is named"
    for path, name in tests:
        content = (REPOSITORY / path).read_text()
        assert re.search(rf"^(async )?def {name}\(", content, re.MULTILINE), f"{path} has no {name}"
