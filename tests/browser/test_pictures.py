"""A visitor's own picture in the form: chosen, dropped or pasted, uploaded, and cropped."""

import base64
import io
import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.support.axe import axe_violations

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
# Hands a file to an element, as a drop or a paste does. Returns whether the page took it.
HAND_OVER = """(field, [kind, text, name, type]) => {
  const carried = new DataTransfer();
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  carried.items.add(new File([bytes], name, { type }));
  const init = { bubbles: true, cancelable: true, dataTransfer: carried, clipboardData: carried };
  const event = kind === "drop" ? new DragEvent(kind, init) : new ClipboardEvent(kind, init);
  field.dispatchEvent(event);
  return event.defaultPrevented;
}"""


def picture(width=320, height=200, kind="JPEG", colour="teal"):
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, kind)
    return file.getvalue()


def choose(visitor, content, name="cat.jpg", stop=1, media_type=""):
    """Choose a file in the browser's dialog."""
    with visitor.page.expect_file_chooser() as chooser:
        visitor.page.get_by_role("button", name=f"Add picture to stop {stop}").click()
    chooser.value.set_files({"name": name, "mimeType": media_type, "buffer": content})


def hand_over(visitor, kind, content, name, media_type, label="From"):
    field = visitor.page.get_by_label(label, exact=True)
    return field.evaluate(HAND_OVER, [kind, base64.b64encode(content).decode(), name, media_type])


def crop_button(visitor, stop=1):
    return visitor.page.get_by_role("button", name=f"Crop picture of stop {stop}")


@pytest.mark.parametrize(
    "look", [{"color_scheme": "light"}, {"color_scheme": "dark"} | PHONE], ids=["desktop", "phone"]
)
def test_a_picture_is_cropped_by_keyboard_and_survives_a_reload(visit, look):
    """The whole way of a picture in the form; axe looks at each part of it, and nothing scrolls sideways on a phone."""
    visitor = visit("/", **look)
    page = visitor.page
    choose(visitor, picture())
    expect(crop_button(visitor)).to_be_visible()
    visitor.assert_no_layout_shift()
    assert axe_violations(visitor) == []
    crop_button(visitor).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("application", name="Part of the picture")).to_be_focused()
    shown = page.get_by_role("dialog").get_by_role("status")
    expect(shown).to_have_text("Shown: from 19% to 81% of the width, from 0% to 100% of the height.")
    for key in ("+", "+", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    expect(shown).to_have_text("Shown: from 27% to 78% of the width, from 5% to 87% of the height.")
    assert axe_violations(visitor) == []
    wide = page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    page.get_by_role("button", name="Use this part").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(crop_button(visitor)).to_be_focused()
    page.get_by_label("To", exact=True).fill("blue waves")
    page.reload()
    expect(page.get_by_label("To", exact=True)).to_have_value("blue waves")
    crop_button(visitor).click()
    expect(shown).to_have_text("Shown: from 27% to 78% of the width, from 5% to 87% of the height.")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Remove picture of stop 1").click()
    expect(page.get_by_label("From")).to_be_focused()
    expect(crop_button(visitor)).to_have_count(0)


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_is_taken_by_the_field_that_it_was_handed_to(visit, kind):
    """And what is no picture is left to the browser, and to the part of the page that opens films."""
    visitor = visit("/")
    assert hand_over(visitor, kind, picture(kind="PNG"), "cat.png", "image/png", label="To")
    expect(crop_button(visitor, stop=2)).to_be_visible()
    expect(visitor.page.get_by_text("does not contain the settings of a walk")).to_have_count(0)
    assert hand_over(visitor, kind, b"words", "words.txt", "text/plain") == (kind == "drop")
    expect(visitor.page.get_by_role("button", name="Add picture to stop 1")).to_be_visible()


def test_a_picture_that_cannot_be_used_says_so_in_its_place(visit):
    """In the API's words, or the page's own if the browser can tell."""
    visitor = visit("/")
    visitor.allow_console("status of 422")
    field = visitor.page.get_by_label("From")
    for name, media_type, problem in (
        ("cat.jpg", "", "This is not a picture that can be read."),
        ("IMG_1.HEIC", "", "Your browser cannot read this HEIC photo. Save it as JPEG first"),
        ("notes.txt", "text/plain", "This file is not a picture. Choose a JPEG"),
    ):
        choose(visitor, b"no picture at all", name, media_type=media_type)
        expect(field).to_have_accessible_description(re.compile(re.escape(problem)))
        assert axe_violations(visitor) == []
        visitor.page.get_by_role("button", name="Remove picture of stop 1").click()
    # The HEIC photo and the text were not even sent.
    assert len(visitor.requested_urls("/api/v1/pictures$")) == 1


def test_an_upload_can_be_cancelled_and_tried_again(visit):
    """A photo over a phone's network takes its time, and may break off."""
    visitor = visit("/")
    visitor.allow_console("net::ERR_FAILED|ERR_INTERNET_DISCONNECTED")
    held = []
    visitor.context.route("**/api/v1/pictures", lambda route: held.append(route))
    choose(visitor, picture())
    visitor.wait_until(lambda: held)
    expect(visitor.page.get_by_role("progressbar")).to_be_visible()
    expect(visitor.page.get_by_role("button", name="Uploading…")).to_be_disabled()
    visitor.page.get_by_role("button", name="Cancel the upload of the picture of stop 1").click()
    expect(visitor.page.get_by_role("button", name="Start walk")).to_be_enabled()
    choose(visitor, picture())
    visitor.wait_until(lambda: len(held) == 2)
    held[1].abort()
    expect(visitor.page.get_by_label("From")).to_have_accessible_description(re.compile("The upload was interrupted"))
    visitor.context.unroute("**/api/v1/pictures")
    visitor.page.get_by_role("button", name="Try again with the picture of stop 1").click()
    expect(crop_button(visitor)).to_be_visible()


def test_a_photo_that_is_too_large_is_made_smaller_in_the_browser(visit):
    """Cameras of phones take more than the API's 40 megapixels."""
    visitor = visit("/")
    with visitor.page.expect_response("**/api/v1/pictures") as answered:
        choose(visitor, picture(7000, 6000))
    assert answered.value.status == 201
    assert [answered.value.json()[side] for side in ("width", "height")] == [2048, 1755]
    expect(crop_button(visitor)).to_be_visible()


def test_the_picture_of_somebody_else_must_be_replaced(visit):
    """A link brings its id, and it is not the visitor's."""
    visitor = visit(f"/?stop=&stop=a+wave&picture=0:{'5a' * 32}")
    visitor.allow_console("status of 404")
    field = visitor.page.get_by_label("From")
    expect(field).to_have_accessible_description(
        "This picture is no longer available to you. Choose another one, or remove it."
    )
    visitor.page.get_by_role("button", name="Start walk").click()
    expect(field).to_be_focused()
    assert visitor.requested_urls("/api/v1/walks$") == []
