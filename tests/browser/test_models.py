"""Several models: the choice in the form, the settings that each of them allows, and the filter of the gallery."""

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Route, expect

from tests.support.gallery_deployment import MINIATURE

MODELS = "**/api/v1/models"
CARDS = "ul[aria-label=Walks] > li:not(.placeholder)"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture
def offered(deployment):
    """The models as the API offers them."""
    return httpx.get(f"{deployment.url}/api/v1/models", trust_env=False).json()


def answering(visitor, answer: Callable[[Route], None]):
    """Answer the page's requests for the models in another way."""
    visitor.context.route(MODELS, answer)


def choose(visitor, model: str):
    visitor.page.get_by_label("Model", exact=True).select_option(model)


def open_options(visitor):
    visitor.page.get_by_text("Options", exact=True).click()


def submit(visitor):
    visitor.page.get_by_role("button", name="Start walk", exact=True).click()
    visitor.page.wait_for_url(re.compile(r"/walks/[0-9a-f]{32}$"))


def test_a_walk_is_made_with_the_chosen_model_and_found_by_it(visit, deployment):
    """From the form, by keyboard, to the label of the walk and the filter of the gallery."""
    visitor = visit("/")
    page = visitor.page
    picker = page.get_by_label("Model", exact=True)
    expect(picker).to_have_value("atelier")
    expect(picker).to_have_accessible_description(re.compile("^Licence: Apache-2.0"))
    picker.focus()
    page.keyboard.press("ArrowDown")
    expect(picker).to_have_value(MINIATURE)
    expect(picker).to_have_accessible_description("Licence: CC-BY-NC-4.0, not for commercial use.")
    expect(page.get_by_role("button", name="Words it knows")).to_have_count(0)
    expect(page.get_by_label("From")).to_have_attribute("placeholder", "a red star")
    page.wait_for_url(re.compile(rf"/\?model={MINIATURE}$"))
    # An empty form requests the example of the chosen model.
    submit(visitor)
    visitor.await_state("done")
    walk = deployment.read({"url": f"/api/v1/walks/{page.url[-32:]}"})
    assert (walk["spec"]["model"], walk["spec"]["width"], walk["spec"]["steps"]) == (MINIATURE, 128, 4)
    assert walk["spec"]["stops"] == ["a red star", "a blue moon"]
    expect(page.get_by_text("The miniature, 128 × 128 px")).to_be_visible()
    page.get_by_role("link", name="The miniature").click()
    page.wait_for_url(re.compile(rf"/gallery\?model={MINIATURE}$"))
    expect(page.locator(CARDS)).to_have_count(1)
    expect(page.locator(CARDS)).to_contain_text("The miniature")
    page.get_by_role("searchbox").fill("zeppelin")
    expect(page.get_by_role("status")).to_have_text("No walks made with this model match “zeppelin”.")
    page.get_by_label("Model").select_option("All models")
    page.wait_for_url(re.compile(r"/gallery\?q=zeppelin$"))
    expect(page.locator(CARDS).first).to_contain_text("The atelier")


def test_a_walk_is_continued_with_its_model_while_that_is_offered(visit, deployment, offered):
    """Its last picture would be another one with another model. What is left out is said."""
    walk = deployment.finished_walk("a green star", "a grey moon", model=MINIATURE, width=192)
    visitor = visit(f"/walks/{walk['id']}")
    page = visitor.page
    page.get_by_role("link", name="Continue from the last stop").click()
    expect(page.get_by_label("Model", exact=True)).to_have_value(MINIATURE)
    expect(page.get_by_label("Width")).to_have_value("192")
    path = page.url.removeprefix(visitor.url)
    only = offered | {"models": [model for model in offered["models"] if model["default"]]}
    answering(visitor, lambda route: route.fulfill(json=only))
    visitor.go(path.replace("width=192", "width=8"))
    expect(page.get_by_text(f"The model “{MINIATURE}” is not available. The form uses The atelier")).to_be_visible()
    expect(page.get_by_label("Width")).to_have_value("256")
    expect(page.get_by_label("Height")).to_have_value("128")
    expect(page.get_by_label("Model", exact=True)).to_have_count(0)
    expect(page.get_by_text("Model The atelier")).to_be_visible()


def test_settings_are_remembered_for_their_model_until_the_defaults_are_used(visit, walk):
    """What suits one model can be wrong for another."""
    visitor = visit("/")
    page = visitor.page
    # Nothing has to be rendered for what is sent.
    visitor.context.route("**/api/v1/walks", lambda route: route.fulfill(json=walk))
    open_options(visitor)
    page.get_by_role("group", name="Shape").get_by_text("Portrait").click()
    expect(page.get_by_label("Width")).to_have_value("192")
    expect(page.get_by_label("Height")).to_have_value("320")
    page.get_by_label("Frame time").fill("120")
    page.get_by_label("MP4 there and back").check()
    expect(page.get_by_role("status").get_by_text("4 settings changed.")).to_be_visible()
    choose(visitor, MINIATURE)
    expect(page.get_by_label("Width")).to_have_value("128")
    expect(page.get_by_text("2 settings changed.")).to_be_visible()
    visitor.go("/?stop=a+red+wave&stop=a+blue+wave")
    page.get_by_text("Options · 4 changed").click()
    expect(page.get_by_label("Height")).to_have_value("320")
    with page.expect_request("**/api/v1/walks") as sent:
        submit(visitor)
    changed = {"width": 192, "height": 320, "frame_ms": 120, "mp4_there_and_back": True}
    assert {name: sent.value.post_data_json.get(name) for name in changed} == changed
    visitor.go("/")
    page.get_by_text("Options · 4 changed").click()
    page.get_by_role("button", name="Use the defaults").click()
    expect(page.get_by_label("Height")).to_have_value("256")
    expect(page.get_by_text("All settings have their defaults.")).to_be_visible()
    assert page.evaluate("() => Object.keys(localStorage)") == []


def test_a_number_that_is_deleted_becomes_the_default_again(visit):
    """And nothing changes under the visitor's fingers while a number is typed."""
    page = visit("/").page
    page.get_by_text("Options", exact=True).click()
    steps = page.get_by_label("Steps")
    steps.press("Control+a")
    # 1 and 12: the default on the way.
    for typed in ("1", "12", "123"):
        steps.press(typed[-1])
        expect(steps).to_have_value(typed)
    for _ in range(3):
        steps.press("Backspace")
    expect(steps).to_have_value("")
    steps.press("Tab")
    expect(steps).to_have_value("12")
    expect(page.get_by_text("All settings have their defaults.")).to_be_visible()


def test_what_the_api_rejects_is_explained_at_its_field(visit):
    """The options open, and the first field with a problem has the focus."""
    visitor = visit("/?stop=a+red+wave&stop=a+blue+wave")
    page = visitor.page
    visitor.allow_console("status of 422")
    open_options(visitor)
    page.get_by_label("Width").fill("140")
    page.get_by_label("Steps").fill("101")
    page.locator("summary").click()
    page.get_by_role("button", name="Start walk", exact=True).click()
    expect(page.get_by_label("Width")).to_be_focused()
    expect(page.get_by_label("Width")).to_have_accessible_description(
        re.compile("^Width must be 128 to 512 in steps of 64 pixels.*, not 140.$")
    )
    expect(page.get_by_label("Steps")).to_have_accessible_description(re.compile("^Steps must be 1 to 100.*not 101.$"))
    expect(page.get_by_role("alert")).to_have_text("")


def test_the_form_works_as_soon_as_the_first_model_has_started(visit, offered):
    """A deployment that scales from zero has no model at first."""
    visitor = visit("/about")
    page = visitor.page
    page.clock.install()
    started = False
    answering(visitor, lambda route: route.fulfill(json=offered if started else offered | {"models": []}))
    visitor.go("/")
    expect(page.get_by_role("status").get_by_text("No model has started yet.")).to_be_visible()
    page.get_by_label("From").fill("a red wave")
    expect(page.get_by_role("button", name="Surprise me")).to_be_disabled()
    started = True
    page.clock.run_for(6_000)
    expect(page.get_by_label("Model", exact=True)).to_have_value("atelier")
    expect(page.get_by_role("button", name="Surprise me")).to_be_enabled()
    expect(page.get_by_label("From")).to_have_value("a red wave")


def test_a_model_that_is_asleep_says_that_it_has_to_start(visit, offered):
    """A visitor in a hurry can choose another one."""
    models = [
        offered["models"][0] | {"frame_seconds": 2.2},
        offered["models"][1] | {"frame_seconds": 1.2, "replicas": {"awake": 0}},
    ]
    visitor = visit("/about")
    answering(visitor, lambda route: route.fulfill(json=offered | {"models": models}))
    visitor.go("/")
    page = visitor.page
    options = page.get_by_label("Model", exact=True).locator("option")
    expect(options).to_have_text(["The atelier · about 2 s a picture", "The miniature · asleep"])
    choose(visitor, MINIATURE)
    expect(page.get_by_text("Asleep: it starts within a few minutes.")).to_be_visible()


@pytest.mark.parametrize("look", [{}, PHONE], ids=["wide", "phone"])
def test_nothing_moves_when_the_models_arrive(visit, deployment, look):
    """Visitors may be typing already."""
    visitor = visit("/about", **look)
    held = []
    answering(visitor, lambda route: held.append(route))
    earlier = "/?stop=a+red+wave&stop=a+blue+wave&width=128&steps=4&spacing=even"
    below = {"/": "footer", earlier: "footer", "/gallery": CARDS, f"/walks/{deployment.walk_ids[0]}": "[type=range]"}
    for path, selector in below.items():
        visitor.go(path)
        visitor.page.locator("main img").first.wait_for()
        visitor.wait_for("() => document.fonts.status === 'loaded'")
        visitor.wait_until(lambda: held)
        before = visitor.page.locator(selector).first.bounding_box()
        held.pop().continue_()
        expect(visitor.page.get_by_text("The atelier").first).to_be_attached()
        assert visitor.page.locator(selector).first.bounding_box() == before, path
        visitor.assert_no_layout_shift()


def test_every_model_is_described_on_the_page_about(visit):
    """With its limits, its words, and whether its licence forbids commercial use."""
    page = visit("/about").page
    atelier, miniature = (page.get_by_role("region", name=name) for name in ("The atelier", "The miniature"))
    expect(atelier.get_by_role("heading", name="Vocabulary")).to_be_visible()
    expect(atelier).not_to_contain_text("Not for commercial use")
    expect(miniature).to_contain_text("CC-BY-NC-4.0")
    expect(miniature).to_contain_text("Not for commercial use: the licence forbids it.")
    expect(miniature).to_contain_text("128 × 128 pixels by default; 128 to 192 per side")
    miniature.get_by_role("link", name="a red star to a blue moon").click()
    expect(page.get_by_label("Model", exact=True)).to_have_value(MINIATURE)


def test_the_words_of_a_model_are_shown_without_leaving_the_form(visit):
    """The atelier knows few. Escape closes the list."""
    page = visit("/").page
    page.get_by_role("button", name="Words it knows").press("Enter")
    words = page.get_by_role("dialog", name="Words that The atelier knows")
    expect(words).to_contain_text("checkerboard")
    page.keyboard.press("Escape")
    expect(words).to_have_count(0)
