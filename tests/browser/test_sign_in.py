"""Sign-in in a real browser, whose rules for cookies decide whether it works and what other sites can do."""

from pathlib import Path

from playwright.sync_api import Browser

from tests.support.factories import FakeFleet
from tests.support.oidc import GALLERY_CLIENT, oidc_provider
from tests.support.processes import REPOSITORY, free_port
from tests.support.served_api import served_api

ME = "async () => await (await fetch('/api/v1/me')).json()"
POST_FROM_HERE = """
(url) => {
  const form = document.createElement("form");
  Object.assign(form, { method: "post", enctype: "multipart/form-data", action: url });
  document.body.append(form);
  form.submit();
}
"""


def test_a_visitor_signs_in_at_another_site_which_can_change_nothing(browser: Browser, tmp_path: Path):
    """Cookies must survive the way through another site, and must not serve this site's pages."""
    fleet, port = FakeFleet(), free_port()
    fleet.add()
    # To the browser, localhost is another site than 127.0.0.1, where the provider is.
    own = f"http://localhost:{port}"
    with oidc_provider([f"{own}/api/v1/sign-in/callback"]) as provider:
        options = {"sign_in": "optional", "sign_in_issuers": provider.issuer, **GALLERY_CLIENT}
        with served_api(tmp_path, fleet, port=port, gallery=REPOSITORY / "frontend" / "dist", **options):
            context = browser.new_context()
            page = context.new_page()
            page.goto(f"{own}/api/v1/sign-in?next=/about")
            assert page.url.startswith(provider.issuer)
            page.fill("[name=login]", "ada")
            page.fill("[name=password]", "any")
            page.click("[type=submit]")
            page.click("[type=submit]")
            page.wait_for_url(f"{own}/about")
            assert page.evaluate(ME)["name"] == "Ada"
            assert "session" not in page.evaluate("document.cookie")
            page.goto(f"{provider.issuer}/.well-known/openid-configuration")
            page.evaluate(POST_FROM_HERE, f"{own}/api/v1/pictures")
            page.wait_for_url(f"{own}/api/v1/pictures")
            assert "cross-site-request" in page.content()
            context.close()
