"""From two prompts to a film: what a visitor sees on the way."""

import base64
import io
import re

import av
import httpx
import pytest
from PIL import Image
from playwright.sync_api import expect

# What a slot shows, as the browser has painted it.
PAINTED = """(slot) => {
  const shown = slot.querySelector("img[data-shown]");
  const canvas = new OffscreenCanvas(shown.naturalWidth, shown.naturalHeight);
  const brush = canvas.getContext("2d");
  brush.drawImage(shown, 0, 0);
  const { data } = brush.getImageData(0, 0, canvas.width, canvas.height);
  let text = "";
  for (let at = 0; at < data.length; at += 8192) text += String.fromCharCode(...data.subarray(at, at + 8192));
  return btoa(text);
}"""
LOADED = """(frames) => {
  const shown = [...document.querySelectorAll("li[data-frame] img[data-shown]")];
  return shown.length === frames && shown.every((picture) => picture.complete && picture.naturalWidth);
}"""


def fill_in(visitor, *stops):
    page = visitor.page
    for _ in stops[2:]:
        page.get_by_role("button", name="Add a stop").click()
    fields = page.locator("textarea")
    for index, stop in enumerate(stops):
        fields.nth(index).fill(stop)
    page.get_by_text("Details", exact=True).click()
    page.get_by_role("group", name="Frames").get_by_text("13", exact=True).click()


def submit(visitor):
    visitor.page.get_by_role("button", name="Walk", exact=True).click()
    visitor.page.wait_for_url(re.compile(r"/walks/[0-9a-f]{32}$"))


@pytest.mark.parametrize("server", ["nginx", "embedded"])
def test_two_prompts_become_a_walk_that_appears_frame_by_frame(visit, deployment, server):
    """The one thing that this is for, in both homes."""
    url = deployment.url if server == "nginx" else deployment.direct.url
    visitor = visit("/", url)
    fill_in(visitor, f"a calm wave in teal, {server}", "large stars, yellow on navy")
    with deployment.holding(after=3):
        submit(visitor)
        visitor.wait_for("() => observed.filled.length > 0")
        assert visitor.page.locator("[data-state]").get_attribute("data-state") in ("waiting", "rendering")
        assert visitor.page.locator("li[data-frame]").count() == 13
    visitor.await_state("done")
    visitor.wait_for(LOADED, 13)
    said = visitor.observed("announced")
    assert said[0] == "0 %. The walk has been asked for."
    assert said[-1] == "100 %. The walk is done."
    assert len(said) <= 5
    filled = [slot["frame"] for slot in visitor.observed("filled") if slot["kind"] == "frame"]
    assert sorted(filled) == list(range(13))
    visitor.assert_no_layout_shift()
    address = visitor.page.url.replace("/walks/", "/api/v1/walks/")
    for frame in range(13):
        told = httpx.get(f"{address}/frames/{frame}.png", trust_env=False).content
        with Image.open(io.BytesIO(told)) as picture:
            pixels = picture.convert("RGBA").tobytes()
        assert base64.b64decode(visitor.slot(frame).evaluate(PAINTED)) == pixels, frame


def test_slots_fill_before_the_walk_is_done_and_out_of_order(visit, deployment):
    """Many replicas render at once, coarse to fine; nobody waits for the frame before."""
    with deployment.holding(after=2):
        asked = deployment.ask(start="a wide spiral", end="a dense grid", frames=13, spacing="uniform", steps=4)
        visitor = visit(f"/walks/{asked['id']}")
        visitor.wait_for("() => observed.filled.length === 4")
        early = visitor.observed("filled")
        assert {slot["state"] for slot in early} <= {"waiting", "rendering", None}
        frames = sorted(slot["frame"] for slot in early)
        assert frames != list(range(4)), "they came in order"
        expect(visitor.page.locator("li[data-kind='empty']")).to_have_count(9)
        expect(visitor.page.locator(".progress[data-state]")).to_contain_text(re.compile("^4 of 13 · 2 replicas"))
    visitor.await_state("done")
    expect(visitor.page.locator("li[data-kind='frame']")).to_have_count(13)
    visitor.assert_no_layout_shift()


def test_an_even_walk_shows_probes_before_it_has_frames(visit, deployment):
    """Rounds take a while in which there is something to see."""
    with deployment.holding(after=2):
        asked = deployment.ask(start="a narrow spiral in maroon", end="tiles of circles", frames=13, steps=4)
        visitor = visit(f"/walks/{asked['id']}")
        visitor.page.locator("li[data-kind='probe'] img.there").first.wait_for()
        expect(visitor.page.locator("li[data-kind='frame']")).to_have_count(0)
        expect(visitor.page.locator(".progress[data-state]")).to_contain_text("Finding even steps")
    visitor.await_state("done")
    expect(visitor.page.locator("li[data-kind='frame']")).to_have_count(13)


def test_a_walk_may_pass_five_stops(visit, deployment):
    """Up to eight; five show that every one is asked for and named."""
    visitor = visit("/")
    stops = ["a red square", "a blue circle", "a green star", "a black grid", "a white wave"]
    fill_in(visitor, *stops)
    submit(visitor)
    visitor.await_state("done")
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text(re.compile(r"\s+by\s+|".join(stops), re.DOTALL))
    asked = deployment.read({"url": f"/api/v1/walks/{visitor.page.url[-32:]}"})
    assert asked["spec"]["stops"] == stops


def test_both_films_come_home_under_good_names(visit, walk, tmp_path):
    """A film that cannot be opened at home is none."""
    visitor = visit(f"/walks/{walk['id']}")
    saved = {}
    for kind in ("MP4", "GIF", "Frames, ZIP"):
        with visitor.page.expect_download() as coming:
            visitor.page.get_by_role("link", name=f"Download {kind}").click()
        saved[kind] = tmp_path / coming.value.suggested_filename
        coming.value.save_as(saved[kind])
    name = "momalisa_a-red-sunburst-on-yellow-to-a-blue-spiral-on-white_0_13f"
    assert [path.name for path in saved.values()] == [f"{name}.mp4", f"{name}.gif", f"{name}.zip"]
    with Image.open(saved["GIF"]) as gif:
        assert (gif.n_frames, gif.size) == (24, (128, 128))
    with av.open(str(saved["MP4"])) as mp4:
        assert len(list(mp4.decode(video=0))) == 13


def test_cancel_stops_the_walk_for_good(visit, deployment):
    """What nobody wants any more takes nobody's GPU; and it can be wanted again."""
    visitor = visit("/")
    fill_in(visitor, "a target in turquoise", "a ladder at night")
    with deployment.holding(after=1):
        submit(visitor)
        visitor.wait_for("() => observed.filled.length > 0")
        visitor.page.get_by_role("button", name="Cancel").click()
        visitor.await_state("cancelled")
        assert deployment.read({"url": f"/api/v1/walks/{visitor.page.url[-32:]}"})["state"] == "cancelled"
    expect(visitor.page.get_by_role("button", name="Cancel")).to_have_count(0)
    visitor.page.get_by_role("button", name="Try again").click()
    visitor.await_state("done")


def test_a_failed_walk_says_why_keeps_its_prompts_and_is_tried_again(visit, deployment):
    """Whoever typed two long prompts must not type them again."""
    visitor = visit("/")
    fill_in(visitor, "a lantern in orange", "a rainbow in grey")
    with deployment.refusing("This replica paints nothing today."):
        submit(visitor)
        expect(visitor.page.get_by_role("alert")).to_have_text(re.compile("This replica paints nothing today"))
        visitor.await_state("failed")
    heading = visitor.page.get_by_role("heading", level=1)
    expect(heading).to_have_text(re.compile(r"a lantern in orange\s+to\s+a rainbow in grey"))
    visitor.page.get_by_role("button", name="Try again").click()
    visitor.await_state("done")
    expect(visitor.page.get_by_role("alert")).to_have_count(0)


def test_a_walk_goes_on_from_where_another_ended(visit, walk):
    """The end becomes the start."""
    visitor = visit(f"/walks/{walk['id']}")
    visitor.page.get_by_role("link", name="Walk on from here").click()
    expect(visitor.page.get_by_label("From")).to_have_value("a blue spiral on white")
    expect(visitor.page.get_by_label("To", exact=True)).to_have_value("")


def test_a_wish_that_cannot_be_is_explained_at_the_form(visit):
    """Before anything is asked, where it can be mended."""
    visitor = visit("/")
    fill_in(visitor, "a red square", "a blue circle")
    visitor.page.get_by_label("Seed").fill("99999999999")
    visitor.page.get_by_role("button", name="Walk", exact=True).click()
    expect(visitor.page.get_by_role("alert")).to_contain_text("A whole number up to 4294967295")
    assert visitor.requested_urls("/api/v1/walks$") == []


def test_an_ask_that_the_api_refuses_is_explained_at_the_form(visit):
    """In the api's own words: it knows limits that the page does not."""
    visitor = visit("/")
    visitor.allow_console("status of 422")
    fill_in(visitor, "a red square", "a blue circle")
    visitor.context.route("**/api/v1/walks", lambda route: route.continue_(post_data='{"stops": ["a", ""]}'))
    visitor.page.get_by_role("button", name="Walk", exact=True).click()
    expect(visitor.page.get_by_role("alert")).to_contain_text("The last prompt must have 1 to 1000 characters, not 0.")
    expect(visitor.page.get_by_label("From")).to_have_value("a red square")


def test_surprise_me_fills_in_what_the_model_paints_well_and_swap_turns_it_round(visit, deployment):
    """Nobody knows at first what to ask for."""
    visitor = visit("/")
    visitor.page.get_by_role("button", name="Surprise me").click()
    fields = visitor.page.locator("textarea")
    start, end = (fields.nth(index).input_value() for index in range(2))
    examples = httpx.get(f"{deployment.url}/api/v1/model", trust_env=False).json()["card"]["about"]["examples"]
    assert [start, end] in examples
    visitor.page.get_by_role("button", name="Swap").click()
    assert [fields.nth(index).input_value() for index in range(2)] == [end, start]
