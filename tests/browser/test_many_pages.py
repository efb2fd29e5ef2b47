"""Many pages in one browser. HTTP/1.1 allows it six connections per host, and an event stream takes one for minutes."""

import pytest
from playwright.sync_api import expect

TABS = 7
# Playwright keeps all pages in sight. This makes one behave as in a background tab, and as without https, where
# browsers have no locks that pages could share the connections with.
IN_BACKGROUND = """
window.inBackground = false;
Object.defineProperty(document, "hidden", { get: () => window.inBackground });
Object.defineProperty(navigator, "locks", { value: undefined });
"""
MOVE = """(inBackground) => {
  window.inBackground = inBackground;
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture
def unfinished(deployment, request):
    """The path of a walk that has four frames until `let_through`."""
    with deployment.holding(after=2):
        walk = deployment.request_walk(
            start=f"a room {request.node.name}", end="many windows", frames=13, spacing="uniform", steps=4
        )
        yield f"/walks/{walk['id']}"


def shows(page, frames):
    expect(page.locator("li[data-kind='frame']")).to_have_count(frames)


def test_pages_in_background_tabs_leave_their_connections_to_others(visit, deployment, unfinished):
    """Seven forgotten tabs must not hang the eighth page. Back in sight, each catches up."""
    visitor = visit("/about")
    tabs = [visitor.new_page() for _ in range(TABS)]
    for tab in tabs:
        tab.add_init_script(IN_BACKGROUND)
        with tab.expect_request("**/events"):
            tab.goto(visitor.url + unfinished)
        shows(tab, 4)
        tab.evaluate(MOVE, True)
    shows(visitor.go(unfinished), 4)
    deployment.let_through()
    visitor.await_state("done")
    for tab in tabs:
        shows(tab, 4)
        tab.evaluate(MOVE, False)
        shows(tab, 13)


def test_many_windows_side_by_side_share_the_connections(visit, deployment, unfinished):
    """All of them are in sight: some get events, the others poll."""
    visitor = visit(unfinished)
    pages = [visitor.page, *(visitor.new_page() for _ in range(TABS))]
    for page in pages[1:]:
        page.goto(visitor.url + unfinished)
        shows(page, 4)
    deployment.let_through()
    for page in pages:
        shows(page, 13)
