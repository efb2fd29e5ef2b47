"""One deployment and one browser for all of these tests; a fresh visitor for each test.

Both stop after the last test of this folder: Playwright keeps an event loop running in its thread, and other tests
start their own.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.browser import Visitor
from tests.support.browser import browser as chromium
from tests.support.gallery_deployment import GalleryDeployment, deployed_gallery, many_walks

Visit = Callable[..., Visitor]


@pytest.fixture(scope="package")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GalleryDeployment]:
    with deployed_gallery(tmp_path_factory.mktemp("deployment"), many_walks()) as running:
        yield running


@pytest.fixture(scope="package")
def browser(deployment: GalleryDeployment) -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def visit(deployment: GalleryDeployment, browser: Browser) -> Iterator[Visit]:
    """Opens a page in a fresh browser profile. At the end every console must be empty."""
    visitors: list[Visitor] = []

    def open_page(path: str = "/", url: str = deployment.url, **options: Any) -> Visitor:
        visitor = Visitor(browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options), url)
        visitors.append(visitor)
        visitor.go(path)
        return visitor

    yield open_page
    for close in [partial(Visitor.close, visitor) for visitor in visitors]:
        close()


@pytest.fixture(scope="package")
def walk(deployment: GalleryDeployment) -> dict[str, Any]:
    """A finished walk of thirteen frames."""
    return deployment.finished_walk("a red sunburst on yellow", "a blue spiral on white")
