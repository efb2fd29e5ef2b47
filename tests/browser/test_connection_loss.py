"""Reload, sleep, tunnels: a walk goes on, and its page finds it again."""

import re

import pytest
from playwright.sync_api import expect

BROKEN = r"Failed to load resource: net::ERR_"


@pytest.fixture
def half_done(visit, deployment, request):
    """A visitor before a walk of which four frames have come, and no more do within the test."""
    with deployment.holding(after=2):
        asked = deployment.ask(
            start=f"a tunnel {request.node.name}", end="light", frames=13, spacing="uniform", steps=4
        )
        visitor = visit(f"/walks/{asked['id']}")
        expect(visitor.page.locator("li[data-kind='frame']")).to_have_count(4)
        yield visitor


def let_through(deployment):
    for proxy in deployment.direct.proxies:
        proxy.let_all()


def test_a_reload_in_mid_walk_goes_on(half_done, deployment):
    """The address is the walk: nothing that matters is kept in the page."""
    half_done.page.reload()
    expect(half_done.page.locator("li[data-kind='frame']")).to_have_count(4)
    let_through(deployment)
    half_done.await_state("done")
    expect(half_done.page.locator("li[data-kind='frame']")).to_have_count(13)


def test_who_goes_offline_is_told_and_goes_on_when_back(half_done, deployment):
    """A walk needs no spectator."""
    half_done.allow_console(BROKEN)
    half_done.context.set_offline(True)
    expect(half_done.page.get_by_text("You are offline. The walk goes on without you.")).to_be_visible()
    let_through(deployment)
    deployment.ended({"url": f"/api/v1/walks/{half_done.page.url[-32:]}"})
    expect(half_done.page.locator("li[data-kind='frame']")).to_have_count(4)
    half_done.context.set_offline(False)
    half_done.await_state("done")
    expect(half_done.page.locator("li[data-kind='frame'] img.there")).to_have_count(13)


def test_a_picture_that_was_lost_on_the_way_is_asked_for_again(visit, walk):
    """A slot that stayed empty would look like a frame that was never rendered."""
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
    expect(visitor.page.locator("li[data-kind='frame'] img.there")).to_have_count(13)
    assert len(lost) == 3


def test_after_three_lost_connections_it_polls(visit, deployment):
    """Some proxies cut every stream; frames come all the same, a little later."""
    with deployment.holding(after=2):
        asked = deployment.ask(start="a cut wire", end="a whole one", frames=13, spacing="uniform", steps=4)
        visitor = visit("/about")
        visitor.allow_console(BROKEN)
        cut = []
        visitor.context.route("**/events", lambda route: (cut.append(1), route.abort("connectionreset")))
        visitor.go(f"/walks/{asked['id']}")
        visitor.wait_until(lambda: len(cut) >= 3)
        polls = len(visitor.requested_urls(f"{asked['id']}$"))
        visitor.wait_until(lambda: len(visitor.requested_urls(f"{asked['id']}$")) >= polls + 2)
        assert len(cut) == 3
    visitor.await_state("done")
    expect(visitor.page.locator("li[data-kind='frame']")).to_have_count(13)


def test_a_server_that_is_away_for_a_while_is_waited_for(half_done, deployment):
    """Deployments restart. Nothing is lost, and the visitor does nothing."""
    half_done.allow_console(BROKEN)
    half_done.allow_console(r"status of 503")
    half_done.context.route("**/api/**", lambda route: route.abort("connectionrefused"))
    half_done.page.reload()
    expect(half_done.page.get_by_text("The server cannot be reached just now. Trying again.")).to_be_visible()
    half_done.context.unroute("**/api/**")
    let_through(deployment)
    half_done.await_state("done")


def test_back_and_forward_lead_through_the_pages(visit, walk):
    """Real addresses: each page is where it was."""
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
