"""From the form to the finished walk, as a visitor sees it."""

import base64
import io
import re

import av
import httpx
import pytest
from PIL import Image
from playwright.sync_api import expect

# The pixels of the picture in a slot, as the browser has decoded it.
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


# Counts the animation frames in which the player has no picture. Browsers show the one before until one is loaded.
GAPS = """() => {
  window.gaps = 0;
  const look = () => {
    if (!document.querySelector("[aria-label='Current frame'] img")) window.gaps += 1;
    requestAnimationFrame(look);
  };
  look();
}"""


def fill_in(visitor, *stops):
    page = visitor.page
    for _ in stops[2:]:
        page.get_by_role("button", name="Add stop").click()
    fields = page.locator("textarea")
    for index, stop in enumerate(stops):
        fields.nth(index).fill(stop)
    page.get_by_text("Options", exact=True).click()
    page.get_by_role("group", name="Frames").get_by_text("13", exact=True).click()


def submit(visitor):
    visitor.page.get_by_role("button", name="Start walk", exact=True).click()
    visitor.page.wait_for_url(re.compile(r"/walks/[0-9a-f]{32}$"))


@pytest.mark.parametrize("server", ["nginx", "embedded"])
def test_two_prompts_become_a_walk_that_appears_frame_by_frame(visit, deployment, server):
    """The main purpose of the site, with both servers."""
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
    announced = visitor.observed("announced")
    assert announced[0] == "0%. The walk has been requested."
    assert announced[-1] == "100%. The walk is finished."
    assert len(announced) <= 5
    filled = [slot["frame"] for slot in visitor.observed("filled") if slot["kind"] == "frame"]
    assert sorted(filled) == list(range(13))
    visitor.assert_no_layout_shift()
    address = visitor.page.url.replace("/walks/", "/api/v1/walks/")
    for frame in range(13):
        png = httpx.get(f"{address}/frames/{frame}.png", trust_env=False).content
        with Image.open(io.BytesIO(png)) as picture:
            pixels = picture.convert("RGBA").tobytes()
        assert base64.b64decode(visitor.slot(frame).evaluate(PAINTED)) == pixels, frame


def test_slots_fill_before_the_walk_is_done_and_out_of_order(visit, deployment):
    """Many replicas render at once, coarse to fine; no frame waits for the one before it."""
    with deployment.holding(after=2):
        started = deployment.request_walk(
            start="a wide spiral", end="a dense grid", frames=13, spacing="uniform", steps=4
        )
        visitor = visit(f"/walks/{started['id']}")
        visitor.wait_for("() => observed.filled.length === 4")
        early = visitor.observed("filled")
        assert {slot["state"] for slot in early} <= {"waiting", "rendering", None}
        frames = sorted(slot["frame"] for slot in early)
        assert frames != list(range(4)), "they arrived in order"
        expect(visitor.page.locator("li[data-kind='empty']")).to_have_count(9)
        expect(visitor.page.locator(".progress[data-state]")).to_contain_text(
            re.compile("^4 of 13 frames · 2 replicas")
        )
    visitor.await_state("done")
    expect(visitor.page.locator("li[data-kind='frame']")).to_have_count(13)
    visitor.assert_no_layout_shift()


def test_an_even_walk_shows_probes_before_it_has_frames(visit, deployment):
    """The first round takes a while; its pictures are shown in the meantime, faint, as others may replace them."""
    with deployment.holding(after=2):
        started = deployment.request_walk(start="a narrow spiral in maroon", end="tiles of circles", frames=13, steps=4)
        visitor = visit(f"/walks/{started['id']}")
        visitor.page.locator("li[data-kind='probe'] img.loaded").first.wait_for()
        expect(visitor.page.locator("li[data-kind='frame']")).to_have_count(0)
        expect(visitor.page.locator(".progress[data-state]")).to_contain_text(" of 13 frames")
        expect(visitor.page.locator("img.loaded.probe").first).to_have_css("opacity", "0.4")
    visitor.await_state("done")
    expect(visitor.page.locator("li[data-kind='frame']")).to_have_count(13)


def test_an_even_walk_can_be_played_while_its_spacing_is_improved(visit, deployment):
    """Its first round is a whole walk. The frames that replace it are shown without a gap."""
    # Enough for the first round, and too few for the second one.
    with deployment.holding(after=9):
        started = deployment.request_walk(start="a broad spiral in olive", end="squares in a ring", frames=13, steps=4)
        visitor = visit(f"/walks/{started['id']}")
        visitor.page.get_by_text(re.compile(r"^Improving the spacing: round 2 of \d ·")).wait_for()
        expect(visitor.page.locator("li[data-kind='probe'] img.loaded:not(.probe)")).to_have_count(13)
        visitor.page.get_by_role("button", name="Play").click()
        visitor.wait_for("() => document.querySelector('[type=range]').value > 1")
        visitor.page.evaluate(GAPS)
    visitor.await_state("done")
    visitor.wait_for(LOADED, 13)
    expect(visitor.page.locator("li[data-kind='frame']")).to_have_count(13)
    assert visitor.page.evaluate("window.gaps") == 0
    visitor.assert_no_layout_shift()


def test_spacing_and_effort_are_chosen_by_keyboard_and_explained(visit):
    """What was chosen is requested, kept when the visitor comes back, and named on the walk's page."""
    visitor = visit("/")
    page = visitor.page
    fill_in(visitor, "a grid of hearts", "a grid of moons")
    spacing, effort = (page.get_by_role("group", name=name) for name in ("Spacing", "Effort"))
    spacing.get_by_label("Even", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(spacing.get_by_label("Uniform", exact=True)).to_be_checked()
    expect(spacing).to_have_accessible_description("Equal steps between the prompts. The pictures may jump.")
    expect(effort).to_have_count(0)
    page.keyboard.press("ArrowLeft")
    expect(effort.get_by_label("Balanced", exact=True)).to_be_checked()
    effort.get_by_label("Balanced", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(effort).to_have_accessible_description("Twice as many pictures, for the most even steps.")
    with page.expect_request("**/api/v1/walks") as sent:
        submit(visitor)
    assert sent.value.post_data_json["effort"] == "best"
    expect(page.get_by_text("13, even spacing (best)")).to_be_visible()
    page.go_back()
    expect(effort.get_by_label("Best", exact=True)).to_be_checked()


def test_a_walk_can_have_five_stops(visit, deployment):
    """The maximum is eight; five show that each one is requested and named."""
    visitor = visit("/")
    stops = ["a red square", "a blue circle", "a green star", "a black grid", "a white wave"]
    fill_in(visitor, *stops)
    submit(visitor)
    visitor.await_state("done")
    heading = " via ".join(stops[:-1]) + f" to {stops[-1]}"
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text(heading)
    found = deployment.read({"url": f"/api/v1/walks/{visitor.page.url[-32:]}"})
    assert found["spec"]["stops"] == stops


def test_downloads_have_descriptive_file_names(visit, walk, tmp_path):
    """And the downloaded films can be opened."""
    visitor = visit(f"/walks/{walk['id']}")
    saved = {}
    for kind in ("MP4", "GIF", "Frames (ZIP)"):
        with visitor.page.expect_download() as coming:
            visitor.page.get_by_role("link", name=f"Download {kind}").click()
        saved[kind] = tmp_path / coming.value.suggested_filename
        coming.value.save_as(saved[kind])
    name = "momalisa_a-red-sunburst-on-yellow-to-a-blue-spiral-on-white_0_13f"
    assert [path.name for path in saved.values()] == [f"{name}.mp4", f"{name}.gif", f"{name}.zip"]
    with Image.open(saved["GIF"]) as gif:
        assert (gif.n_frames, gif.size) == (24, (256, 256))
    with av.open(str(saved["MP4"])) as mp4:
        assert len(list(mp4.decode(video=0))) == 13


def test_cancel_stops_the_walk_until_it_is_requested_again(visit, deployment):
    """A cancelled walk uses no GPU."""
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


def test_a_failed_walk_shows_the_reason_and_can_be_retried(visit, deployment):
    """Long prompts need not be typed again."""
    visitor = visit("/")
    fill_in(visitor, "a lantern in orange", "a rainbow in grey")
    with deployment.refusing("This replica renders nothing today."):
        submit(visitor)
        expect(visitor.page.get_by_role("alert")).to_have_text(re.compile("This replica renders nothing today"))
        visitor.await_state("failed")
    heading = visitor.page.get_by_role("heading", level=1)
    expect(heading).to_have_text(re.compile(r"a lantern in orange\s+to\s+a rainbow in grey"))
    visitor.page.get_by_role("button", name="Try again").click()
    visitor.await_state("done")
    expect(visitor.page.get_by_role("alert")).to_have_count(0)


def pixels(png: bytes) -> bytes:
    with Image.open(io.BytesIO(png)) as picture:
        return picture.convert("RGBA").tobytes()


def test_a_new_walk_starts_with_the_last_picture_of_another(visit, deployment):
    """The last stop becomes the first. With another seed, size or setting the picture would be another."""
    before = deployment.finished_walk("a yellow ring", "a green tile", seed=7, width=128, height=192, guidance_scale=2)
    visitor = visit(f"/walks/{before['id']}")
    visitor.page.get_by_role("link", name="Continue from the last stop").click()
    expect(visitor.page.get_by_label("From")).to_have_value("a green tile")
    expect(visitor.page.get_by_label("To", exact=True)).to_have_value("")
    expect(visitor.page.get_by_label("Seed")).to_have_value("7")
    for label, value in (("Width", "128"), ("Height", "192"), ("Steps", "4"), ("Guidance", "2")):
        expect(visitor.page.get_by_label(label)).to_have_value(value)
    visitor.page.get_by_label("To", exact=True).fill("a purple wave")
    submit(visitor)
    visitor.await_state("done")
    last = deployment.fetch(f"{before['url']}/frames/12.png")
    first = deployment.fetch(f"/api/v1/walks/{visitor.page.url[-32:]}/frames/0.png")
    assert pixels(first) == pixels(last)


def test_the_settings_of_an_earlier_walk_can_be_dropped(visit):
    """They are visible in the options, whatever link has brought them."""
    visitor = visit("/?stop=a+red+square&stop=a+blue+circle&frames=7&steps=4&scheduler=Euler")
    expect(visitor.page.get_by_role("group", name="Frames").get_by_label("7", exact=True)).to_be_checked()
    expect(visitor.page.get_by_label("Steps")).to_have_value("4")
    expect(visitor.page.get_by_label("Scheduler")).to_have_value("Euler")
    expect(visitor.page.get_by_role("status").get_by_text("2 settings changed.")).to_be_visible()
    visitor.page.get_by_role("button", name="Use the defaults").click()
    expect(visitor.page.get_by_label("Steps")).to_have_value("12")
    with visitor.page.expect_request("**/api/v1/walks") as sent:
        submit(visitor)
    request = sent.value.post_data_json
    assert request == {"stops": ["a red square", "a blue circle"], "frames": 7, "listed": True}


DROP = """([text, name]) => {
  const carried = new DataTransfer();
  carried.items.add(new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], name));
  const drop = new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true });
  document.querySelector("main").dispatchEvent(drop);
  return drop.defaultPrevented;
}"""


@pytest.mark.parametrize("film", ["walk.gif", "walk.mp4", "poster.webp", "poster.jpg"])
def test_a_film_brings_its_form_back(visit, deployment, walk, film):
    """Dropped anywhere on the page. It is read in the browser; nothing is uploaded."""
    content = deployment.fetch(f"{walk['url']}/{film}")
    visitor = visit("/")
    assert visitor.page.evaluate(DROP, [base64.b64encode(content).decode(), film])
    expect(visitor.page.get_by_text(f"The form now has the prompts and settings of {film}.")).to_be_visible()
    fields = visitor.page.locator("textarea")
    assert [fields.nth(index).input_value() for index in range(2)] == walk["spec"]["stops"]
    assert [request.url for request in visitor.requests if request.method != "GET"] == []
    submit(visitor)
    # The same request is the same walk.
    assert visitor.page.url.endswith(walk["id"])


def test_a_film_is_opened_by_keyboard(visit, deployment, walk):
    """Not everybody can drag a file."""
    film = deployment.fetch(f"{walk['url']}/walk.gif")
    visitor = visit("/")
    choosers = []
    visitor.page.on("filechooser", lambda chooser: choosers.append(chooser))
    visitor.page.get_by_role("button", name="Open a film").focus()
    visitor.page.keyboard.press("Enter")
    visitor.wait_until(lambda: choosers)
    choosers[0].set_files({"name": "walk.gif", "mimeType": "image/gif", "buffer": film})
    expect(visitor.page.get_by_label("From")).to_have_value(walk["spec"]["stops"][0])


def test_a_file_without_settings_is_refused_with_a_sentence(visit, deployment, walk):
    """And the form stays as it was."""
    frame = deployment.fetch(f"{walk['url']}/frames/0.png")
    visitor = visit("/?stop=a+wave&stop=a+star")
    visitor.page.evaluate(DROP, [base64.b64encode(frame).decode(), "0.png"])
    expect(visitor.page.get_by_role("alert")).to_have_text(
        "0.png does not contain the settings of a walk. Choose a GIF, MP4 or poster made by MoMALisa."
    )
    expect(visitor.page.get_by_label("From")).to_have_value("a wave")


def test_invalid_input_is_explained_at_the_form(visit):
    """Before anything is sent, where it can be corrected."""
    visitor = visit("/")
    fill_in(visitor, "a red square", "a blue circle")
    visitor.page.get_by_label("Seed").fill("99999999999")
    visitor.page.get_by_role("button", name="Start walk", exact=True).click()
    expect(visitor.page.get_by_label("Seed")).to_be_focused()
    expect(visitor.page.get_by_label("Seed")).to_have_accessible_description(
        "The seed must be a whole number from 0 to 4294967295, or “auto”."
    )
    assert visitor.requested_urls("/api/v1/walks$") == []


def test_a_request_that_the_api_rejects_is_explained_at_the_form(visit):
    """In the API's words: it knows limits that the page does not."""
    visitor = visit("/")
    visitor.allow_console("status of 422")
    fill_in(visitor, "a red square", "a blue circle")
    visitor.context.route("**/api/v1/walks", lambda route: route.continue_(post_data='{"stops": ["a", ""]}'))
    visitor.page.get_by_role("button", name="Start walk", exact=True).click()
    expect(visitor.page.get_by_label("To", exact=True)).to_be_focused()
    expect(visitor.page.get_by_label("To", exact=True)).to_have_accessible_description(
        "The last prompt must have 1 to 1000 characters, not 0."
    )
    expect(visitor.page.get_by_label("From")).to_have_value("a red square")


def test_surprise_me_fills_in_an_example_and_reverse_swaps_its_stops(visit, deployment):
    """New visitors do not know what to enter."""
    visitor = visit("/")
    visitor.page.get_by_role("button", name="Surprise me").click()
    fields = visitor.page.locator("textarea")
    start, end = (fields.nth(index).input_value() for index in range(2))
    examples = httpx.get(f"{deployment.url}/api/v1/model", trust_env=False).json()["card"]["about"]["examples"]
    assert [start, end] in examples
    visitor.page.get_by_role("button", name="Reverse").click()
    assert [fields.nth(index).input_value() for index in range(2)] == [end, start]
