"""The player on the page of a finished walk: picture, scrubber, keys, automatic playback."""

from itertools import pairwise

import pytest
from playwright.sync_api import expect


@pytest.fixture
def visitor(visit, walk):
    """A visitor of a finished walk, paused at its first frame."""
    visitor = visit(f"/walks/{walk['id']}")
    visitor.await_state("done")
    picture(visitor).press("Home")
    expect(button(visitor, "Play")).to_be_visible()
    return visitor


def picture(visitor):
    return visitor.page.get_by_role("group", name="Current frame")


def button(visitor, name):
    return visitor.page.get_by_role("button", name=name, exact=True)


def slider(visitor):
    return visitor.page.get_by_role("slider", name="Frame")


def test_a_finished_walk_plays_when_its_page_opens_until_it_is_paused(visit, walk):
    """The walk itself is what visitors come for; Pause is there from the start, as WCAG 2.2.2 wants it."""
    visitor = visit(f"/walks/{walk['id']}")
    expect(button(visitor, "Pause")).to_be_visible()
    expect(picture(visitor)).to_have_attribute("data-playing", "true")
    visitor.wait_for("() => document.querySelector('[type=range]').value > 1")
    button(visitor, "Pause").click()
    expect(button(visitor, "Play")).to_be_visible()
    paused_at = slider(visitor).input_value()
    # Ten frames' time.
    visitor.page.wait_for_timeout(800)
    assert slider(visitor).input_value() == paused_at


def test_a_walk_plays_when_it_finishes_on_an_open_page(visit, deployment):
    """Without a reload or a click."""
    with deployment.holding(after=2):
        started = deployment.request_walk(
            start="a slow dawn", end="a quick noon", frames=13, spacing="uniform", steps=4
        )
        visitor = visit(f"/walks/{started['id']}")
        expect(visitor.page.locator("li[data-kind='frame']")).to_have_count(4)
        expect(button(visitor, "Play")).to_be_disabled()
    expect(button(visitor, "Pause")).to_be_visible()
    visitor.wait_for("() => document.querySelector('[type=range]').value > 1")


def test_a_walk_does_not_play_for_a_visitor_who_has_chosen_a_frame(visit, deployment):
    """The picture must not change while a visitor looks at it."""
    with deployment.holding(after=2):
        started = deployment.request_walk(
            start="a slow dusk", end="a quick night", frames=13, spacing="uniform", steps=4
        )
        visitor = visit(f"/walks/{started['id']}")
        expect(visitor.page.locator("li[data-kind='frame']")).to_have_count(4)
        visitor.slot(7).get_by_role("button").click()
    visitor.await_state("done")
    expect(button(visitor, "Play")).to_be_enabled()
    expect(slider(visitor)).to_have_attribute("aria-valuetext", "Frame 8 of 13")


def test_keys_on_the_picture_move_through_the_frames(visitor, walk):
    """Frame by frame, forwards and backwards, without a mouse."""
    picture(visitor).focus()
    for key, frame in [("End", 13), ("ArrowLeft", 12), ("Home", 1), ("ArrowRight", 2), ("ArrowRight", 3)]:
        visitor.page.keyboard.press(key)
        expect(slider(visitor)).to_have_attribute("aria-valuetext", f"Frame {frame} of 13")
        expect(picture(visitor).locator("img")).to_have_attribute("src", f"{walk['url']}/frames/{frame - 1}.png")
    expect(picture(visitor).locator("img")).to_have_attribute(
        "alt", "Frame 3 of 13 of the walk from a red sunburst on yellow to a blue spiral on white"
    )


def test_space_plays_and_pauses_and_l_switches_the_mode(visitor):
    """As in other players."""
    picture(visitor).focus()
    visitor.page.keyboard.press("Space")
    expect(button(visitor, "Pause")).to_be_visible()
    visitor.wait_for("() => document.querySelector('[type=range]').value > 1")
    visitor.page.keyboard.press("Space")
    expect(button(visitor, "Play")).to_be_visible()
    loop, back = (visitor.page.get_by_role("radio", name=name) for name in ("Loop", "There and back"))
    expect(back).to_be_checked()
    visitor.page.keyboard.press("l")
    expect(loop).to_be_checked()
    visitor.page.keyboard.press("L")
    expect(back).to_be_checked()


def test_a_walk_plays_there_and_back(visitor):
    """Observed through the scrubber: up to the last frame, then down again.

    A busy browser paints less often than frames change: up to four of them at once, also around a turn.
    """
    visitor.page.evaluate("""() => {
      window.frames_seen = [];
      const range = document.querySelector("[type=range]");
      const record = () => {
        if (frames_seen.at(-1) !== range.valueAsNumber) frames_seen.push(range.valueAsNumber);
        requestAnimationFrame(record);
      };
      record();
    }""")
    visitor.page.get_by_text("2×", exact=True).click()
    button(visitor, "Play").click()
    visitor.wait_for(
        "() => { const top = frames_seen.findIndex((frame) => frame >= 10);"
        " return top >= 0 && frames_seen.slice(top).some((frame) => frame <= 2); }"
    )
    seen = visitor.page.evaluate("() => frames_seen")
    steps = [after - before for before, after in pairwise(seen)]
    assert max(map(abs, steps)) <= 4
    turns = [frame for frame, (before, after) in zip(seen[1:], pairwise(steps), strict=False) if before * after < 0]
    assert turns
    assert all(frame <= 2 or frame >= 10 for frame in turns)


def test_the_scrubber_and_a_slot_show_their_frame(visitor, walk):
    """By the keys of a slider, and by a click."""
    slider(visitor).focus()
    visitor.page.keyboard.press("End")
    expect(picture(visitor).locator("img")).to_have_attribute("src", f"{walk['url']}/frames/12.png")
    visitor.slot(4).get_by_role("button").click()
    expect(slider(visitor)).to_have_attribute("aria-valuetext", "Frame 5 of 13")
    expect(visitor.slot(4).get_by_role("button")).to_have_attribute("aria-current", "true")


def test_the_details_describe_the_walk(visitor, walk):
    """Prompts, seed, model, date, smoothness."""
    details = visitor.page.locator(".details")
    for text in ("a red sunburst on yellow", "a blue spiral on white", "Seed", "atelier, 256 × 256 px", "evenness"):
        expect(details).to_contain_text(text)
    expect(details.locator("time")).to_have_attribute("datetime", walk["created_at"])


def test_the_owner_can_copy_the_link_and_hide_the_walk_from_the_gallery(visit, deployment):
    """Only the owner can list or unlist a walk."""
    visitor = visit("/")
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    started = visitor.page.evaluate("""() => fetch("/api/v1/walks", {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ start: "a wave of mine", end: "a star of mine", frames: 3, spacing: "uniform", steps: 4 }),
    }).then((answer) => answer.json())""")
    visitor.go(f"/walks/{started['id']}")
    visitor.await_state("done")
    visitor.page.get_by_role("button", name="Copy link").click()
    expect(visitor.page.get_by_role("status").get_by_text("Link copied")).to_be_visible()
    assert visitor.page.evaluate("() => navigator.clipboard.readText()") == visitor.page.url
    visitor.page.get_by_role("checkbox", name="Show in the gallery").uncheck()
    visitor.wait_until(lambda: "a wave of mine" not in deployment.fetch("/api/v1/walks?q=mine").decode())
    stranger = visit(f"/walks/{started['id']}")
    stranger.await_state("done")
    stranger.page.get_by_role("button", name="Copy link").wait_for()
    expect(stranger.page.get_by_role("checkbox", name="Show in the gallery")).to_have_count(0)
