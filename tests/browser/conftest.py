"""One house and one browser for all of these tests; a fresh visitor for each.

Both end with the last test of this folder: while Playwright runs, its thread runs an event loop, and other tests start
their own.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.house import House, standing, wall
from tests.browser.visitor import Visitor
from tests.browser.visitor import browser as chromium

Visit = Callable[..., Visitor]


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with standing(tmp_path_factory.mktemp("house"), wall()) as running:
        yield running


@pytest.fixture(scope="package")
def browser(house: House) -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def visit(house: House, browser: Browser) -> Iterator[Visit]:
    """Opens a page of the house in a browser that nobody has used. All consoles must be empty in the end."""
    visitors: list[Visitor] = []

    def come(path: str = "/", url: str = house.url, **look: Any) -> Visitor:
        visitor = Visitor(browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | look), url)
        visitors.append(visitor)
        visitor.go(path)
        return visitor

    yield come
    for leave in [partial(Visitor.leave, visitor) for visitor in visitors]:
        leave()


@pytest.fixture(scope="package")
def walk(house: House) -> dict[str, Any]:
    """A walk of thirteen frames that is done."""
    return house.walked("a red sunburst on yellow", "a blue spiral on white")
