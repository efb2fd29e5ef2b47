"""A visitor's private walk: who can open it, links to it, its end, and walks that begin with a picture."""

import io
import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.support.axe import axe_violations

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
# Few and quick frames.
QUICK = "frames=13&steps=4&spacing=uniform"
LOADED = """(frames) => {
  const shown = [...document.querySelectorAll("li[data-frame] img[data-shown]")];
  return shown.length === frames && shown.every((picture) => picture.complete && picture.naturalWidth);
}"""


def start(visitor):
    visitor.page.get_by_role("button", name="Start walk", exact=True).click()
    visitor.page.wait_for_url(re.compile(r"/walks/[0-9a-f]{32}$"))


def refused(visitor):
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text("Walk not found")


def test_a_private_walk_opens_for_its_owner_and_by_a_link_until_it_is_deleted(visit, deployment):
    """Everything on the page works with the link: frames while they are made, events, films, and a reload."""
    owner, stranger = visit(f"/?stop=a+private+ring&stop=a+hidden+star&{QUICK}"), visit("/about", **PHONE)
    stranger.allow_console("status of 404")
    owner.page.get_by_label("Private").check()
    with deployment.holding(after=2):
        start(owner)
        owner.wait_for("() => observed.filled.length > 0")
        path = owner.page.url.removeprefix(deployment.url)
        stranger.go(path)
        refused(stranger)
        made = owner.context.request.post(f"{deployment.url}/api/v1{path}/links", data={})
        stranger.page.goto(made.json()["url"])
        stranger.wait_for("() => observed.filled.length > 0")
    stranger.await_state("done")
    stranger.page.reload()
    stranger.wait_for(LOADED, 13)
    with stranger.page.expect_download() as coming:
        stranger.page.get_by_role("link", name="Download GIF").click()
    with Image.open(coming.value.path()) as gif:
        assert gif.n_frames == 24
    assert axe_violations(stranger) == []
    expect(stranger.page.get_by_role("button", name=re.compile("Delete|Share"))).to_have_count(0)
    delete(owner)
    expect(owner.page.get_by_role("heading", level=1)).to_have_text("Walk deleted")
    stranger.page.reload()
    refused(stranger)


def delete(owner):
    owner.await_state("done")
    owner.page.get_by_role("button", name="Delete walk").click()
    expect(owner.page.get_by_role("button", name="Keep it")).to_be_focused()
    assert axe_violations(owner) == []
    owner.page.get_by_role("button", name="Delete", exact=True).click()


@pytest.fixture
def pictured(visit):
    """A visitor on the page of a finished walk from a picture of theirs."""
    visitor = visit(f"/?stop=&stop=a+blue+wave&{QUICK}", color_scheme="dark")
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "PNG")
    with visitor.page.expect_file_chooser() as chooser:
        visitor.page.get_by_role("button", name="Add picture to stop 1").click()
    chooser.value.set_files({"name": "cat.png", "mimeType": "image/png", "buffer": file.getvalue()})
    expect(visitor.page.get_by_role("button", name="Crop picture of stop 1")).to_be_visible()
    expect(visitor.page.get_by_label("Private")).to_be_checked()
    expect(visitor.page.get_by_label("Private")).to_be_disabled()
    start(visitor)
    visitor.await_state("done")
    return visitor


def test_a_walk_from_a_picture_is_private_until_its_owner_lists_it(visit, deployment, pictured):
    """And another seed, or a change in the form, keeps the picture."""
    page = pictured.page
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"a picture\s+to\s+a blue wave"))
    expect(page.get_by_text("Private", exact=True)).to_be_visible()
    page.get_by_role("button", name="Share privately").click()
    expect(page.get_by_label("Private link")).to_have_value(re.compile(r"\?link="))
    expect(page.get_by_text(re.compile("Everyone who has it can open the walk until"))).to_be_visible()
    assert axe_violations(pictured) == []
    stranger = visit("/about")
    stranger.allow_console("status of 404")
    path = page.url.removeprefix(deployment.url)
    stranger.go(path)
    refused(stranger)
    page.get_by_role("checkbox", name="Show in the gallery").check()
    expect(page.get_by_role("button", name="Copy link")).to_be_visible()
    stranger.page.reload()
    stranger.await_state("done")
    # The picture is not theirs to use.
    expect(stranger.page.get_by_role("button", name="Try another seed")).to_have_count(0)
    with page.expect_request(lambda request: request.method == "POST") as sent:
        page.get_by_role("button", name="Try another seed").click()
    request = sent.value.post_data_json
    assert (request["listed"], request["stops"][0].keys()) == (False, {"picture", "prompt", "crop"})
    page.wait_for_url(lambda url: not url.endswith(path))


def test_visitors_see_take_and_delete_what_is_theirs(visit, deployment):
    """Nothing else tells a visitor what the server has of them."""
    visitor = visit(f"/?stop=a+lonely+ring&stop=a+lonely+star&{QUICK}")
    start(visitor)
    visitor.await_state("done")
    visitor.page.get_by_role("link", name="Your data").click()
    summary = visitor.page.get_by_text(re.compile("^You have"))
    expect(summary).to_have_text("You have 1 walk and 0 uploaded pictures here.")
    with visitor.page.expect_download() as coming:
        visitor.page.get_by_role("link", name="Download everything (ZIP)").click()
    assert coming.value.path().stat().st_size > 1000
    visitor.page.get_by_role("button", name="Delete everything").click()
    confirm = visitor.page.get_by_role("dialog").get_by_role("button", name="Delete everything")
    expect(confirm).to_be_disabled()
    visitor.page.get_by_label("Type “delete” to confirm").fill("delete")
    assert axe_violations(visitor) == []
    confirm.click()
    expect(summary).to_have_text("You have no walks and no pictures here.")


ME = {
    "kind": "cookie",
    "name": None,
    "email": None,
    "walks": 2,
    "pictures": 1,
    "clips": 0,
    "sign_in": "optional",
    "mail": True,
}
USER = ME | {"kind": "user", "name": "Ada", "email": "ada@example.com"}


def known_as(visitor, me, *, reload=True):
    """Have the API tell the page who the visitor is: the deployment of these tests has no identity provider."""
    visitor.context.route("**/api/v1/me", lambda route: route.fulfill(json=me))
    if reload:
        visitor.page.reload()


def test_the_first_picture_can_be_taken_along_at_once(visit):
    """Without a reload the page knew a visitor who has nothing, and the picture was lost at sign-in."""
    visitor = visit("/")
    known_as(visitor, ME | {"kind": "anonymous", "walks": 0, "pictures": 0})
    expect(visitor.page.get_by_role("link", name="Sign in")).to_be_visible()
    known_as(visitor, ME, reload=False)
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    with visitor.page.expect_file_chooser() as chooser:
        visitor.page.get_by_role("button", name="Add picture to stop 1").click()
    chooser.value.set_files({"name": "cat.png", "mimeType": "image/png", "buffer": file.getvalue()})
    visitor.page.get_by_role("button", name="Sign in").click()
    expect(visitor.page.get_by_role("dialog", name="Take your walks along?")).to_be_visible()


@pytest.mark.parametrize("look", [{"color_scheme": "dark"} | PHONE, {}], ids=["phone", "desktop"])
def test_signing_in_takes_along_what_the_browser_has_if_the_visitor_wants_it(visit, look):
    """The provider's page comes next, so the question comes before it."""
    visitor = visit("/?stop=a&stop=b", **look)
    known_as(visitor, ME)
    visitor.page.get_by_role("button", name="Sign in").click()
    question = visitor.page.get_by_role("dialog", name="Take your walks along?")
    expect(question).to_contain_text("You have 2 walks and 1 picture in this browser.")
    assert axe_violations(visitor) == []
    back = "/api/v1/sign-in?next=%2F%3Fstop%3Da%26stop%3Db"
    expect(question.get_by_role("link", name="Take along and sign in")).to_have_attribute("href", f"{back}&claim=true")
    expect(question.get_by_role("link", name="Only sign in")).to_have_attribute("href", back)
    known_as(visitor, USER)
    visitor.page.get_by_role("button", name="Account").click()
    expect(visitor.page.get_by_role("dialog", name="Account")).to_contain_text("ada@example.com")
    assert axe_violations(visitor) == []
    wide = visitor.page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    with visitor.page.expect_response("**/api/v1/sign-out") as answered:
        visitor.page.get_by_role("button", name="Sign out").click()
    assert answered.value.status == 204
    # A new page, without what the user had in the form.
    visitor.page.wait_for_url(f"{visitor.url}/")


def test_a_mail_is_requested_at_once_or_after_a_confirmation(visit, deployment):
    """By an address that the provider has verified, or one that its owner confirms."""
    visitor = visit(f"/?stop=a+slow+ring&stop=a+slow+star&{QUICK}")
    visitor.context.route("**/mail", lambda route: route.fulfill(status=202, json={"confirm": not mailed(route)}))
    with deployment.holding(after=1):
        start(visitor)
        known_as(visitor, USER)
        button = visitor.page.get_by_role("button", name="Mail me when it is done")
        button.click()
        expect(visitor.page.get_by_text("We mail ada@example.com when it is done.")).to_be_visible()
        known_as(visitor, ME)
        button.click()
        visitor.page.get_by_label("Your mail address").fill("me@example.com")
        assert axe_violations(visitor) == []
        visitor.page.keyboard.press("Enter")
        expect(visitor.page.get_by_text("Confirm the mail that we have sent to me@example.com.")).to_be_visible()


def mailed(route):
    """Whether the mail needs no confirmation: it goes to the address of the account."""
    return "address" not in route.request.post_data_json
