"""Prompts are untrusted input: they appear as text everywhere."""

import re

import httpx
import pytest
from playwright.sync_api import expect

from tests.support.gallery import head_of

HOSTILE = {
    "markup": ('<img src=x onerror="window.hit=1">', '"><script>window.hit=1</script>'),
    "templates": ("{@html '<b>hit</b>'} {{hit}} ${hit}", '<!--#include virtual="/api/v1/model" --> %3Cscript%3E'),
    "direction": ("a picture \u202egnp.exe", "an isolate \u2067 that never ends"),
}


@pytest.fixture(scope="package")
def hostile(deployment):
    """A finished walk for each kind of hostile prompt."""
    return {name: deployment.finished_walk(*stops, frames=3) for name, stops in HOSTILE.items()}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_prompt_is_text_on_every_page(visit, hostile, name):
    """No script runs, no element is created, no other text changes direction."""
    start, end = HOSTILE[name]
    path = f"/walks/{hostile[name]['id']}"
    visitor = visit(path)
    visitor.await_state("done")
    heading = visitor.page.get_by_role("heading", level=1)
    assert heading.locator("bdi").all_text_contents() == [start, end]
    assert_untouched(visitor)
    visitor.go("/gallery")
    card = visitor.page.locator(f"a[href='{path}']").first
    expect(card).to_contain_text(start)
    expect(card).to_contain_text(end)
    assert_untouched(visitor)
    card.click()
    visitor.page.get_by_role("link", name="Continue from the last stop").click()
    expect(visitor.page.get_by_label("From")).to_have_value(end)
    assert_untouched(visitor)
    visitor.go("/gallery")
    visitor.page.get_by_role("searchbox").fill(start[:20])
    visitor.page.wait_for_url(re.compile(r"\?q="))
    expect(visitor.page.locator(f"main a[href='{path}']")).to_have_count(1)
    assert_untouched(visitor)


def assert_untouched(visitor):
    assert visitor.page.evaluate("() => window.hit") is None
    assert visitor.page.locator("main img[src='x'], main script, main b").count() == 0
    # No request was sent for the picture in the prompt.
    assert visitor.requested_urls("/x$") == []


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_prompt_is_text_to_crawlers(deployment, hostile, name):
    """nginx and the API insert the same metadata, and no prompt breaks out of its attribute."""
    path = f"/walks/{hostile[name]['id']}"
    heads = []
    for url in (deployment.url, deployment.direct.url):
        html = httpx.get(url + path, headers={"Host": "moma.example"}, trust_env=False).text
        head = head_of(html)
        assert set(head.tags) == {"title", "meta", "link"}
        assert HOSTILE[name][0][:20] in head.meta["og:title"]
        heads.append(html)
    assert heads[0].split() == heads[1].split()


def test_a_hostile_url_is_text(visit, deployment):
    """Searches and drafts can come from links that others have made."""
    visitor = visit("/gallery?q=%22%3E%3Cimg%20src%3Dx%20onerror%3Dwindow.hit%3D1%3E")
    expect(visitor.page.locator("main p.empty")).to_contain_text('“"><img src=x onerror=window.hit=1>”')
    assert_untouched(visitor)
    visitor.go("/?stop=%3Cscript%3Ewindow.hit%3D1%3C%2Fscript%3E&frames=%3Cb%3E&seed=javascript:1")
    expect(visitor.page.get_by_label("From")).to_have_value("<script>window.hit=1</script>")
    assert_untouched(visitor)
