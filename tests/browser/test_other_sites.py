"""What pages of other sites can make the browsers of their visitors do."""

from playwright.sync_api import Browser

from tests.support.gallery_deployment import GalleryDeployment

INSERT = """
(urls) => {
  const prefetch = Object.assign(document.createElement("link"), { rel: "prefetch", href: urls[0] });
  const image = Object.assign(document.createElement("img"), { src: urls[1] });
  document.documentElement.append(prefetch, image);
}
"""


def test_a_page_of_another_site_starts_no_walk(deployment: GalleryDeployment, browser: Browser):
    """Neither by an image nor by a prefetch, and the visitor's cookie is not sent with them."""
    url = f"{deployment.url}/api/v1/walk?start=never+asked+for&end=by+anybody&frames=2&seed="
    context = browser.new_context()
    context.request.post(f"{deployment.url}/api/v1/pictures", data=b"nothing")
    assert [cookie["name"] for cookie in context.cookies()] == ["momalisa_owner"]
    page = context.new_page()
    # To the browser, localhost is another site than 127.0.0.1.
    page.goto(f"{deployment.url.replace('127.0.0.1', 'localhost')}/api/v1/models")
    urls = [f"{url}{seed}" for seed in (1, 2)]
    with (
        page.expect_event("response", lambda found: found.url == urls[0]) as prefetch,
        # The answer is a problem document, which the browser keeps from a page of another site.
        page.expect_event("requestfailed", lambda found: found.url == urls[1]) as image,
    ):
        page.evaluate(INSERT, urls)
    assert prefetch.value.status == 403
    for request in (prefetch.value.request, image.value):
        assert "cookie" not in request.all_headers()
        assert context.request.head(request.url).status == 404
    # The visitor may start it.
    assert context.request.get(urls[0], headers={"Accept": "application/json"}).status in (200, 202)
    context.close()
