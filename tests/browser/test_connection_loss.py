"""Reloads, lost connections, outages: the walk continues, and its page catches up."""

import re

import pytest
from playwright.sync_api import expect

BROKEN = r"Failed to load resource: net::ERR_"


@pytest.fixture
def half_done(visit, deployment, request):
    """A visitor on the page of a walk with four frames, which gets no more until `let_through`."""
    with deployment.holding(after=2):
        started = deployment.request_walk(
            start=f"a tunnel {request.node.name}", end="light", frames=13, spacing="uniform", steps=4
        )
        visitor = visit(f"/walks/{started['id']}")
        expect(visitor.page.locator("li[data-kind='frame']")).to_have_count(4)
        yield visitor


def test_a_reload_during_a_walk_continues_it(half_done, deployment):
    """The URL identifies the walk: the page keeps no state that matters."""
    half_done.page.reload()
    expect(half_done.page.locator("li[data-kind='frame']")).to_have_count(4)
    deployment.let_through()
    half_done.await_state("done")
    expect(half_done.page.locator("li[data-kind='frame']")).to_have_count(13)


def test_an_offline_visitor_is_told_so_and_catches_up_when_online(half_done, deployment):
    """A walk continues without watchers."""
    half_done.allow_console(BROKEN)
    half_done.context.set_offline(True)
    expect(half_done.page.get_by_text("You are offline. The walk continues on the server.")).to_be_visible()
    deployment.let_through()
    deployment.ended({"url": f"/api/v1/walks/{half_done.page.url[-32:]}"})
    expect(half_done.page.locator("li[data-kind='frame']")).to_have_count(4)
    half_done.context.set_offline(False)
    half_done.await_state("done")
    expect(half_done.page.locator("li[data-kind='frame'] img.loaded")).to_have_count(13)


def test_a_picture_that_failed_to_load_is_requested_again(visit, walk):
    """An empty slot would look like a frame that was never rendered."""
    visitor = visit("/about")
    visitor.allow_console(BROKEN)
    lost = []

    def lose(route):
        if len(lost) < 3:
            lost.append(route.request.url)
            route.abort("connectionreset")
        else:
            route.continue_()

    visitor.context.route("**/frames/*.png", lose)
    visitor.go(f"/walks/{walk['id']}")
    expect(visitor.page.locator("li[data-kind='frame'] img.loaded")).to_have_count(13)
    assert len(lost) == 3


def test_after_three_lost_connections_it_polls(visit, deployment):
    """Some proxies cut every stream; the frames still arrive, a little later."""
    with deployment.holding(after=2):
        started = deployment.request_walk(start="a cut wire", end="a whole one", frames=13, spacing="uniform", steps=4)
        visitor = visit("/about")
        visitor.allow_console(BROKEN)
        cut = []
        visitor.context.route("**/events", lambda route: (cut.append(1), route.abort("connectionreset")))
        visitor.go(f"/walks/{started['id']}")
        visitor.wait_until(lambda: len(cut) >= 3)
        polls = len(visitor.requested_urls(f"{started['id']}$"))
        visitor.wait_until(lambda: len(visitor.requested_urls(f"{started['id']}$")) >= polls + 2)
        assert len(cut) == 3
    visitor.await_state("done")
    expect(visitor.page.locator("li[data-kind='frame']")).to_have_count(13)


def test_the_page_retries_while_the_server_is_down(half_done, deployment):
    """Deployments restart. Nothing is lost, and the visitor has to do nothing."""
    half_done.allow_console(BROKEN)
    half_done.allow_console(r"status of 503")
    half_done.context.route("**/api/**", lambda route: route.abort("connectionrefused"))
    half_done.page.reload()
    expect(half_done.page.get_by_text("The server cannot be reached. Retrying…")).to_be_visible()
    half_done.context.unroute("**/api/**")
    deployment.let_through()
    half_done.await_state("done")


def test_back_and_forward_move_through_the_pages(visit, walk):
    """Each page has a URL of its own."""
    visitor = visit("/")
    visitor.page.get_by_role("link", name="Gallery", exact=True).click()
    visitor.page.get_by_role("link", name="About", exact=True).click()
    expect(visitor.page).to_have_title("About · MoMALisa")
    visitor.page.go_back()
    expect(visitor.page).to_have_url(re.compile("/gallery$"))
    visitor.page.go_back()
    expect(visitor.page).to_have_title("MoMALisa")
    visitor.page.go_forward()
    expect(visitor.page).to_have_title("Gallery · MoMALisa")
