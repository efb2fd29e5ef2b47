"""Walks of a picture or of a clip: the forms that request them, and their pages.

The models and the finished walks are fake, so that no deployment of each engine is needed; uploads are real.
"""

import re

import pytest
from playwright.sync_api import expect

from tests.support.axe import axe_violations
from tests.support.clips import clip
from tests.support.other_kinds import answer_requests, finished, offer_other_kinds, show
from tests.support.pictures import encoded, scene

LOOKS = [
    pytest.param({"color_scheme": "light"}, id="desktop"),
    pytest.param(
        {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True},
        id="phone",
    ),
]
# What each form requests beside its picture, when only a picture was chosen.
DEFAULTS = {
    "into": {"motion": "sway", "amplitude": 0.5},
    "restyle": {"style": "stained-glass", "model": "style"},
    "apart": {"threshold": 0.5, "most": 20},
}


def choose(visitor, name="picture", content=None, file_name="cat.png"):
    """Choose a file in the browser's dialog."""
    with visitor.page.expect_file_chooser() as chooser:
        visitor.page.get_by_role("button", name=f"Choose a {name}").click()
    content = content or encoded(scene(320, 200), "PNG")
    chooser.value.set_files({"name": file_name, "mimeType": "", "buffer": content})


def assert_accessible(visitor):
    wide = visitor.page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    assert axe_violations(visitor) == []


@pytest.mark.parametrize("look", LOOKS)
def test_one_click_after_a_picture_starts_each_kind_of_walk(visit, walk, look):
    """Everything else has a default. axe looks at each form with its picture."""
    visitor = visit("/data", **look)
    page = visitor.page
    offer_other_kinds(visitor)
    requests = answer_requests(visitor, finished("into", walk))
    visitor.go("/")
    for link, kind in (("Into a picture", "into"), ("Restyle", "restyle"), ("Take apart", "apart")):
        page.get_by_role("navigation", name="Kind of walk").get_by_role("link", name=link).click()
        expect(page.get_by_role("heading", level=1)).to_be_focused()
        choose(visitor)
        expect(page.get_by_role("button", name="Crop picture")).to_be_visible()
        # What the model cannot do is said before a walk disappoints; the tiles of styles need no such words.
        expect(page.get_by_text("It has seen painted scenes only.")).to_have_count(int(kind != "restyle"))
        assert_accessible(visitor)
        page.get_by_role("button", name="Start walk").click()
        expect(page.get_by_role("heading", name="Into a picture")).to_be_visible()
        visitor.await_state("done")
        picture = requests[-1].pop("picture")
        assert requests.pop() == {"kind": kind, "listed": False} | DEFAULTS[kind]
        assert re.fullmatch("[0-9a-f]{64}", picture["picture"])
        visitor.go(f"/new/{kind}")


def test_the_picture_and_the_settings_survive_a_reload_and_go_along_to_another_kind(visit, walk):
    """The address of the page has them. A portrait is cropped to its shape."""
    visitor = visit("/data")
    page = visitor.page
    offer_other_kinds(visitor)
    requests = answer_requests(visitor, finished("restyle", walk))
    visitor.go("/new/into")
    choose(visitor)
    expect(page.get_by_role("button", name="Crop picture")).to_be_visible()
    page.get_by_text("Restyle", exact=True).click()
    page.get_by_text("Portrait", exact=True).click()
    page.get_by_text("A prompt", exact=True).click()
    page.get_by_label("Prompt", exact=True).fill("a knight")
    visitor.wait_for("() => location.search.includes('knight')")
    page.reload()
    expect(page.get_by_role("button", name="Crop picture")).to_be_visible()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a knight")
    page.get_by_role("button", name="Start walk").click()
    visitor.await_state("done")
    assert requests[0]["picture"]["crop"] == {"x": 85, "y": 0, "width": 150, "height": 200}
    assert requests[0]["prompt"] == "a knight"
    assert "style" not in requests[0]


def test_a_clip_is_uploaded_shown_and_restyled(visit, walk):
    """With its sound: its page plays the film with the browser's own controls."""
    visitor = visit("/data")
    page = visitor.page
    offer_other_kinds(visitor)
    requests = answer_requests(visitor, finished("clip", walk))
    visitor.go("/new/clip")
    choose(visitor, "clip", clip(sound="aac"), "cat.mp4")
    expect(page.get_by_text("2.0 s · 64 × 48 px · 20 frames · with sound")).to_be_visible()
    page.get_by_text("Woodcut", exact=True).click()
    assert_accessible(visitor)
    page.get_by_role("button", name="Start walk").click()
    expect(page.get_by_role("heading", name="A clip as woodcut")).to_be_visible()
    assert requests[0] == {"kind": "clip", "listed": False, "style": "woodcut", "model": "style"} | {
        "clip": requests[0]["clip"]
    }
    assert page.get_by_label("Player").locator("video").evaluate("(film) => film.controls && !film.muted")
    assert_accessible(visitor)


def test_what_is_missing_is_said_at_its_place(visit):
    """And an address that the server does not fetch, too."""
    visitor = visit("/data")
    page = visitor.page
    visitor.allow_console("status of 4")
    offer_other_kinds(visitor)
    visitor.go("/new/restyle")
    page.get_by_role("button", name="Start walk").click()
    expect(page.get_by_role("alert").filter(has_text="Choose a picture.")).to_be_visible()
    expect(page.get_by_role("button", name="Choose a picture")).to_be_focused()
    page.get_by_label("Address of the picture").fill("http://127.0.0.1/cat.png")
    page.keyboard.press("Enter")
    expect(page.locator("#picture-problem")).to_contain_text("address")
    choose(visitor, content=b"no picture", file_name="cat.jpg")
    expect(page.locator("#picture-problem")).to_contain_text("not a picture")
    expect(page.get_by_role("button", name="Choose a picture")).to_be_visible()
    assert visitor.requested_urls("/api/v1/walks$") == []
    assert_accessible(visitor)


def test_a_kind_that_no_model_can_make_says_what_to_add(visit):
    """The deployment of these tests has no model of depth."""
    visitor = visit("/new/into")
    expect(visitor.page.get_by_role("status").filter(has_text="It needs a model of depth.")).to_be_visible()
    expect(visitor.page.get_by_role("button", name="Start walk")).to_be_disabled()
    assert axe_violations(visitor) == []


@pytest.mark.parametrize("look", LOOKS)
def test_the_page_of_a_walk_has_what_its_kind_is_made_for(visit, walk, look):
    """A portrait, a depth map, cut-outs with their labels."""
    visitor = visit("/data", **look)
    page = visitor.page
    offer_other_kinds(visitor)
    masks = {"instances": [{"label": "cat", "score": 0.934, "box": [9, 9, 30, 20]}, {"label": "dog", "score": 0.5}]}
    visitor.context.route("**/extras/*.png", lambda route: route.fulfill(body=encoded(scene(), "PNG")))
    visitor.context.route("**/extras/instances.json", lambda route: route.fulfill(json=masks))
    for kind, links in (
        ("restyle", ["Download Portrait (PNG)"]),
        ("into", ["Depth map (PNG)", "Foreground (PNG)"]),
        ("apart", ["Masks (JSON)", "Download Annotated picture (PNG)", "Download cat, 93% (PNG)"]),
    ):
        show(visitor, finished(kind, walk, smoothness=walk["smoothness"]))
        visitor.go(f"/walks/{walk['id']}")
        for link in links:
            expect(page.get_by_role("link", name=link)).to_be_visible()
        # They say how even a walk between stops is.
        expect(page.get_by_text("Smoothness")).to_have_count(0)
        looped = page.get_by_role("radio", name="Loop").is_checked()
        assert looped is (kind == "into")
        expect(page.get_by_role("link", name="Change the settings")).to_have_attribute(
            "href", re.compile(f"/new/{kind}")
        )
        assert_accessible(visitor)


def test_the_frame_that_the_player_shows_starts_another_walk(visit, walk):
    """It becomes a picture of the visitor; nothing is downloaded and uploaded again."""
    visitor = visit("/data", reduced_motion="reduce")
    page = visitor.page
    offer_other_kinds(visitor)
    visitor.go(f"/walks/{walk['id']}")
    page.get_by_role("slider", name="Frame").fill("4")
    expect(page.get_by_role("link", name="Save this frame")).to_have_attribute("href", f"{walk['url']}/frames/4.png")
    with page.expect_request("**/api/v1/pictures") as sent:
        page.get_by_role("button", name="Step into this picture").click()
    assert sent.value.post_data_json == {"walk": walk["id"], "frame": 4}
    expect(page.get_by_role("heading", name="Into a picture")).to_be_visible()
    expect(page.get_by_role("img", name="Picture")).to_be_visible()
    page.go_back()
    page.get_by_role("button", name="Use as a stop").click()
    expect(page.get_by_role("button", name="Crop picture of stop 1")).to_be_visible()


def test_a_private_walk_that_was_cancelled_offers_no_files(visit, walk):
    """Nobody can read them any more."""
    visitor = visit("/data")
    page = visitor.page
    offer_other_kinds(visitor)
    show(visitor, finished("into", walk, state="cancelled"))
    visitor.go(f"/walks/{walk['id']}")
    expect(page.get_by_role("heading", name="Start over")).to_be_visible()
    expect(page.get_by_role("link", name="Change the settings")).to_be_visible()
    expect(page.get_by_role("link", name="PNG")).to_have_count(0)
    expect(page.get_by_role("button", name="Delete walk")).to_have_count(0)
