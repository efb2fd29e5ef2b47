"""The gallery, with more walks than load automatically."""

import re

import pytest
from playwright.sync_api import expect

CARDS = "ul[aria-label=Walks] > li:not(.placeholder)"
PAGE = 24


def load_three_pages(visitor):
    for pages in (1, 2, 3):
        expect(visitor.page.locator(CARDS)).to_have_count(pages * PAGE)
        visitor.page.locator(CARDS).last.scroll_into_view_if_needed()


def test_three_pages_load_automatically_and_the_rest_by_a_button(visit, deployment):
    """With endless loading, visitors could never reach the footer."""
    visitor = visit("/gallery")
    load_three_pages(visitor)
    more = visitor.page.get_by_role("button", name="Load more")
    more.wait_for()
    assert len(visitor.requested_urls("/api/v1/walks[?]")) == 3
    more.click()
    visitor.wait_until(lambda: visitor.page.locator(CARDS).count() > 3 * PAGE)
    visitor.assert_no_layout_shift()


def test_a_search_is_part_of_the_url(visit):
    """A search can be sent to others as a link."""
    visitor = visit("/gallery")
    visitor.page.get_by_role("searchbox").fill("  zeppelin ")
    visitor.page.wait_for_url(re.compile(r"/gallery\?q=zeppelin$"))
    expect(visitor.page.locator(CARDS)).to_have_count(9)
    for words in visitor.page.locator(CARDS).all_inner_texts():
        assert "zeppelin" in words
    other = visit("/gallery?q=zeppelin")
    expect(other.page.get_by_role("searchbox")).to_have_value("zeppelin")
    expect(other.page.locator(CARDS)).to_have_count(9)
    other.page.get_by_role("searchbox").fill("submarine")
    expect(other.page.get_by_role("status").get_by_text("No walks match “submarine”.")).to_be_attached()
    expect(other.page.locator(CARDS)).to_have_count(0)


def test_back_restores_the_scroll_position_and_the_loaded_walks(visit):
    """A visitor who has looked at one walk continues from there."""
    visitor = visit("/gallery")
    load_three_pages(visitor)
    visitor.page.get_by_role("button", name="Load more").click()
    visitor.wait_until(lambda: visitor.page.locator(CARDS).count() > 3 * PAGE)
    count = visitor.page.locator(CARDS).count()
    card = visitor.page.locator(CARDS).nth(60)
    card.scroll_into_view_if_needed()
    visitor.page.mouse.wheel(0, 120)
    visitor.page.wait_for_timeout(300)  # until the wheel's motion has ended
    before, requests = card.bounding_box(), len(visitor.requested_urls("/api/v1/walks[?]"))
    card.get_by_role("link").click()
    visitor.page.get_by_role("slider").wait_for()
    visitor.page.go_back()
    expect(visitor.page.locator(CARDS)).to_have_count(count)
    visitor.wait_until(lambda: abs(card.bounding_box()["y"] - before["y"]) <= 2)
    assert len(visitor.requested_urls("/api/v1/walks[?]")) == requests


def test_a_card_plays_its_preview_on_hover_and_focus_and_never_the_gif(visit, walk):
    """A GIF is ten times as large."""
    visitor = visit("/gallery")
    card = visitor.page.locator(f"{CARDS} a[href='/walks/{walk['id']}']")
    card.hover()
    visitor.wait_for("() => document.querySelector('video')?.currentTime > 0.1")
    assert len(visitor.requested_urls(r"preview\.mp4")) >= 1
    visitor.page.mouse.move(2, 2)
    expect(visitor.page.locator("video")).to_have_count(0)
    visitor.page.get_by_role("searchbox").focus()
    for _ in range(20):
        visitor.page.keyboard.press("Tab")
        if card.evaluate("(link) => link === document.activeElement"):
            break
    expect(visitor.page.locator("video.playing")).to_have_count(1)
    assert visitor.requested_urls(r"\.gif|walk\.mp4") == []


def test_a_pointer_that_passes_over_cards_loads_no_film(visit):
    """A preview starts after 150 ms on a card."""
    visitor = visit("/gallery")
    expect(visitor.page.locator(CARDS)).to_have_count(PAGE)
    for number in (0, 1, 2, 3):
        visitor.page.locator(CARDS).nth(number).hover()
        visitor.page.mouse.move(2, 2)
    visitor.page.wait_for_timeout(400)
    assert len(visitor.requested_urls(r"\.mp4")) <= 1, "a slow machine may stay on one card for too long"


@pytest.mark.parametrize("page", ["/gallery"])
def test_with_reduced_motion_no_film_plays_on_hover(visit, page):
    """Nothing moves by itself, and no film is loaded."""
    visitor = visit(page, reduced_motion="reduce")
    visitor.page.locator(CARDS).first.hover()
    visitor.page.wait_for_timeout(600)
    visitor.page.locator(CARDS).nth(1).get_by_role("link").focus()
    visitor.page.wait_for_timeout(600)
    assert visitor.requested_urls(r"\.mp4|\.gif") == []
    expect(visitor.page.locator("video")).to_have_count(0)


def test_the_card_of_an_unfinished_walk_is_updated(visit, deployment):
    """First an empty square, then its poster, in the same place."""
    with deployment.holding(after=2):
        deployment.request_walk(start="a wall that grows", end="a roof", frames=13, spacing="uniform", steps=4)
        visitor = visit("/gallery")
        card = visitor.page.locator(CARDS).first
        expect(card).to_contain_text("a wall that grows to a roof")
        expect(card).to_contain_text(re.compile(r"\d of 13 frames|in the queue"))
    expect(card.locator("img[src$='poster.webp']")).to_have_count(1, timeout=30_000)
    expect(card).not_to_contain_text(" of 13")
