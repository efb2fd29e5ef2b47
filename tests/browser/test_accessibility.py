"""Screen readers, keyboard, small screens, dark theme, reduced motion."""

import json

import pytest
from playwright.sync_api import expect

from tests.support.axe import axe_violations

GROUND = {"light": "rgb(255, 255, 255)", "dark": "rgb(11, 11, 11)"}
TARGET_PX = 44
# Click targets with the size of the area that reacts. Links inside text are exempt.
TARGETS = """() => [...document.querySelectorAll("a, button, input, select, summary, textarea")].flatMap((element) => {
  if (element.closest("p, td, .visually-hidden, .skip, dd") || !element.checkVisibility()) return [];
  const hit = element.closest("ul[aria-label=Walks] > li") ?? element.closest("label") ?? element;
  const { width, height } = hit.getBoundingClientRect();
  return [[element.outerHTML.slice(0, 100), width, height]];
})"""
# The focused element, marked as reached: its HTML, and the screen area around it.
FOCUSED = """() => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  element.dataset.reached = "";
  const { x, y, width, height } = (element.closest("li, label") ?? element).getBoundingClientRect();
  const left = Math.max(0, x - 8), top = Math.max(0, y - 8);
  const right = Math.min(innerWidth, x + width + 8), bottom = Math.min(innerHeight, y + height + 8);
  const clip = { x: left, y: top, width: right - left, height: bottom - top };
  return { name: element.outerHTML.slice(0, 120), clip };
}"""
BLUR = "() => { window.was = document.activeElement; was.blur(); }"
FOCUS = "() => was.focus({ preventScroll: true })"
REACHABLE = """() => [...document.querySelectorAll(
  "a[href], button:not(:disabled):not([tabindex='-1']), input:not([type=radio]):not(:disabled), summary, textarea, " +
  "select:not(:disabled), [tabindex='0'], input[type=radio]:checked"
)].filter((element) => element.checkVisibility({ contentVisibilityAuto: false }) && !("reached" in element.dataset))
  .map((element) => element.outerHTML.slice(0, 120))"""


@pytest.fixture
def pages(walk):
    """Every kind of page, by name."""
    return {
        "first": "/",
        "continued": "/?stop=a+red+wave&frames=37&seed=7&width=128&height=128&steps=4&scheduler=UniPC",
        "other model": "/?model=miniature",
        "into": "/new/into",
        "gallery": "/gallery",
        "few found": "/gallery?q=zeppelin",
        "nothing found": "/gallery?q=submarine",
        "about": "/about",
        "your data": "/data",
        "walk": f"/walks/{walk['id']}",
        "unknown walk": f"/walks/{'0' * 32}",
        "unknown page": "/no/where",
    }


def settle(visitor):
    visitor.page.wait_for_load_state("networkidle")
    visitor.page.get_by_role("heading", level=1).first.wait_for()


def opened(visitor, pages):
    """Open each page and yield its name once the page has loaded."""
    for name, path in pages.items():
        visitor.go(path)
        settle(visitor)
        if name == "first":
            visitor.page.get_by_text("Options", exact=True).click()
        yield name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(visit, deployment, pages, scheme):
    """WCAG 2.2 AA, as far as a machine can tell."""
    visitor = visit("/", color_scheme=scheme)
    visitor.allow_console("status of 404")
    wrong = {}
    for name in opened(visitor, pages):
        wrong[name] = axe_violations(visitor)
    with deployment.holding(after=1):
        started = deployment.request_walk(start=f"an ear {scheme}", end="an eye", frames=13, spacing="uniform", steps=4)
        visitor.go(f"/walks/{started['id']}")
        expect(visitor.page.locator("li[data-kind='frame']")).to_have_count(2)
        wrong["in progress"] = axe_violations(visitor)
    with deployment.refusing("No."):
        failed = deployment.ended(
            deployment.request_walk(start=f"a nose {scheme}", end="a mouth", frames=13, spacing="uniform")
        )
        visitor.go(f"/walks/{failed['id']}")
        visitor.await_state("failed")
        wrong["failed"] = axe_violations(visitor)
    assert {name: found for name, found in wrong.items() if found} == {}


def test_the_theme_follows_the_system_until_it_is_switched(visit):
    """The choice is remembered on the next page, too."""
    visitor = visit("/", color_scheme="dark")
    ground = "() => getComputedStyle(document.documentElement).backgroundColor"
    assert visitor.page.evaluate(ground) == GROUND["dark"]
    visitor.page.emulate_media(color_scheme="light")
    assert visitor.page.evaluate(ground) == GROUND["light"]
    visitor.page.get_by_role("button", name="Switch to dark theme").click()
    assert visitor.page.evaluate(ground) == GROUND["dark"]
    visitor.go("/about")
    assert visitor.page.evaluate(ground) == GROUND["dark"]
    visitor.page.get_by_role("button", name="Switch to light theme").click()
    assert visitor.page.evaluate(ground) == GROUND["light"]


def test_with_reduced_motion_nothing_plays_until_play_is_pressed(visit, walk):
    """Visitors with vestibular disorders decide when something moves."""
    visitor = visit(f"/walks/{walk['id']}", reduced_motion="reduce")
    visitor.await_state("done")
    settle(visitor)
    moving = "() => document.getAnimations().filter((one) => one.playState === 'running').length"
    assert visitor.page.evaluate(moving) == 0
    expect(visitor.page.get_by_role("slider")).to_have_attribute("aria-valuetext", "Frame 1 of 13")
    assert visitor.requested_urls(r"\.mp4|\.gif") == []
    expect(visitor.page.get_by_role("button", name="Play")).to_be_visible()
    visitor.page.get_by_role("button", name="Play").click()
    visitor.wait_for("() => document.querySelector('[type=range]').value > 2")


def test_only_quarters_are_announced(visit, deployment):
    """One announcement per frame would be too many for a screen reader."""
    with deployment.holding(after=0):
        started = deployment.request_walk(
            start="a quiet wave", end="a loud star", frames=13, spacing="uniform", steps=4
        )
        visitor = visit(f"/walks/{started['id']}")
        expect(visitor.page.locator("[aria-live=polite]")).to_have_text("0%. The walk has been requested.")
        filled = visitor.page.locator("li[data-kind='frame']")
        while (before := filled.count()) < 11:
            for proxy in deployment.direct.proxies:
                proxy.let(1)
            visitor.wait_until(lambda count=before: filled.count() > count)
    visitor.await_state("done")
    visitor.wait_for("() => observed.announced.at(-1).startsWith('100%')")
    # The text that is there when the page opens is not announced.
    assert visitor.observed("announced") == [
        "25% of the walk is ready.",
        "50% of the walk is ready.",
        "75% of the walk is ready.",
        "100%. The walk is finished.",
    ]


def test_on_a_phone_nothing_scrolls_sideways_and_targets_are_large_enough(visit, pages):
    """360 px wide, used with a thumb."""
    look = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    visitor = visit("/", **look)
    visitor.allow_console("status of 404")
    small = {}
    for name in opened(visitor, pages):
        if name == "first":
            visitor.page.get_by_role("button", name="Add stop").click()
        wide = visitor.page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1] == 360, name
        targets = visitor.page.evaluate(TARGETS)
        small[name] = [target for target in targets if min(target[1:]) < TARGET_PX - 0.5]
    assert {name: found for name, found in small.items() if found} == {}


def test_on_a_phone_the_strip_scrolls_and_the_picture_is_as_wide_as_the_screen(visit, walk):
    """Thirteen slots of 44 px do not fit; the strip scrolls, the page does not."""
    visitor = visit(f"/walks/{walk['id']}", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    visitor.await_state("done")
    picture = visitor.page.get_by_role("group", name="Current frame").bounding_box()
    assert (picture["x"], picture["width"]) == (0, 360)
    strip = visitor.page.locator("ol:has(> li[data-frame])")
    assert strip.evaluate("(list) => list.scrollWidth > list.clientWidth")
    visitor.page.get_by_role("slider").focus()
    visitor.page.keyboard.press("End")
    visitor.wait_for("() => document.querySelector('ol:has(> li[data-frame])').scrollLeft > 0")
    assert visitor.page.evaluate("() => scrollX") == 0


@pytest.mark.parametrize("name", ["first", "continued", "few found", "about", "walk"])
def test_everything_is_reached_by_keyboard_with_a_visible_focus(visit, pages, name):
    """Without a mouse, the focus reaches everything, is never trapped and always visible."""
    # Reduced motion, so that two screenshots differ only by the focus.
    visitor = visit(pages[name], reduced_motion="reduce")
    settle(visitor)
    hidden = []
    while True:
        visitor.page.keyboard.press("Tab")
        reached = visitor.page.evaluate(FOCUSED)
        if reached is None:
            break
        focused = visitor.page.screenshot(clip=reached["clip"])
        visitor.page.evaluate(BLUR)
        if visitor.page.screenshot(clip=reached["clip"]) == focused:
            hidden.append(reached["name"])
        visitor.page.evaluate(FOCUS)
    assert hidden == [], hidden
    assert visitor.page.evaluate(REACHABLE) == []


def test_the_skip_link_leads_past_the_header(visit):
    """It is the first element that Tab reaches."""
    visitor = visit("/about")
    settle(visitor)
    visitor.page.keyboard.press("Tab")
    visitor.page.keyboard.press("Enter")
    assert json.loads(visitor.page.evaluate("() => JSON.stringify(document.activeElement.tagName)")) == "H1"
