"""The stage, the scrubber and the keys, on a walk that is done."""

import pytest
from playwright.sync_api import expect


@pytest.fixture
def visitor(visit, walk):
    come = visit(f"/walks/{walk['id']}")
    come.await_state("done")
    return come


def stage(visitor):
    return visitor.page.get_by_role("group", name="Stage")


def slider(visitor):
    return visitor.page.get_by_role("slider", name="Frame")


def test_keys_on_the_stage_lead_through_the_frames(visitor, walk):
    """A film at one's own speed, back and forth, without a mouse."""
    stage(visitor).focus()
    for key, frame in [("End", 13), ("ArrowLeft", 12), ("Home", 1), ("ArrowRight", 2), ("ArrowRight", 3)]:
        visitor.page.keyboard.press(key)
        expect(slider(visitor)).to_have_attribute("aria-valuetext", f"Frame {frame} of 13")
        expect(stage(visitor).locator("img")).to_have_attribute("src", f"{walk['url']}/frames/{frame - 1}.png")
    expect(stage(visitor).locator("img")).to_have_attribute(
        "alt", "Frame 3 of 13 on the way from a red sunburst on yellow to a blue spiral on white"
    )


def test_space_plays_and_stands_still_and_l_turns_the_manner(visitor):
    """As every player does it."""
    stage(visitor).focus()
    visitor.page.keyboard.press("Space")
    expect(visitor.page.get_by_role("button", name="Pause")).to_be_visible()
    visitor.wait_for("() => document.querySelector('[type=range]').value > 1")
    visitor.page.keyboard.press("Space")
    expect(visitor.page.get_by_role("button", name="Play")).to_be_visible()
    loop, back = (visitor.page.get_by_role("radio", name=name) for name in ("Loop", "There and back"))
    expect(back).to_be_checked()
    visitor.page.keyboard.press("l")
    expect(loop).to_be_checked()
    visitor.page.keyboard.press("L")
    expect(back).to_be_checked()


def test_a_walk_plays_there_and_back(visitor):
    """Watched through the scrubber: up to the last frame, then down."""
    visitor.page.evaluate("""() => {
      window.frames_seen = [];
      const range = document.querySelector("[type=range]");
      const look = () => {
        if (frames_seen.at(-1) !== range.valueAsNumber) frames_seen.push(range.valueAsNumber);
        requestAnimationFrame(look);
      };
      look();
    }""")
    visitor.page.get_by_text("2×", exact=True).click()
    visitor.page.get_by_role("button", name="Play").click()
    visitor.wait_for("() => frames_seen.lastIndexOf(12) > 0 && frames_seen.lastIndexOf(0) > frames_seen.indexOf(12)")
    seen = visitor.page.evaluate("() => frames_seen")
    turn = seen.index(12)
    assert seen[:turn] == sorted(seen[:turn])
    there = seen[turn : seen.index(0, turn)]
    assert there == sorted(there, reverse=True)


def test_the_scrubber_and_a_slot_show_the_frame_they_mean(visitor, walk):
    """Each by itself, with the keys of a slider."""
    slider(visitor).focus()
    visitor.page.keyboard.press("End")
    expect(stage(visitor).locator("img")).to_have_attribute("src", f"{walk['url']}/frames/12.png")
    visitor.slot(4).get_by_role("button").click()
    expect(slider(visitor)).to_have_attribute("aria-valuetext", "Frame 5 of 13")
    expect(visitor.slot(4).get_by_role("button")).to_have_attribute("aria-current", "true")


def test_the_label_says_what_hangs_there(visitor, walk):
    """From, to, seed, model, date, smoothness."""
    label = visitor.page.locator(".label")
    for said in ("a red sunburst on yellow", "a blue spiral on white", "Seed", "atelier, 128 × 128 px", "evenness"):
        expect(label).to_contain_text(said)
    expect(label.locator("time")).to_have_attribute("datetime", walk["created_at"])


def test_the_link_is_copied_and_the_wall_is_mine_to_choose(visit, deployment):
    """Listed or not is the owner's to change, and nobody else's."""
    visitor = visit("/")
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    asked = visitor.page.evaluate("""() => fetch("/api/v1/walks", {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ start: "a wave of mine", end: "a star of mine", frames: 3, spacing: "uniform", steps: 4 }),
    }).then((answer) => answer.json())""")
    visitor.go(f"/walks/{asked['id']}")
    visitor.await_state("done")
    visitor.page.get_by_role("button", name="Copy link").click()
    expect(visitor.page.get_by_role("status").get_by_text("Copied")).to_be_visible()
    assert visitor.page.evaluate("() => navigator.clipboard.readText()") == visitor.page.url
    visitor.page.get_by_role("checkbox", name="Hangs in the gallery").uncheck()
    visitor.wait_until(lambda: "a wave of mine" not in deployment.fetch("/api/v1/walks?q=mine").decode())
    stranger = visit(f"/walks/{asked['id']}")
    stranger.await_state("done")
    stranger.page.get_by_role("button", name="Copy link").wait_for()
    expect(stranger.page.get_by_role("checkbox", name="Hangs in the gallery")).to_have_count(0)
