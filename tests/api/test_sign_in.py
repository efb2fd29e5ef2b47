"""The gallery's sign-in against a real provider, and what becomes of a visitor's walks."""

from collections.abc import Iterator
from typing import Any

import pytest

from momalisa_api.settings import Settings
from tests.support.factories import FakeFleet, running
from tests.support.oidc import Provider, oidc_provider, sign_in

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 2}
CALLBACK = "http://api/api/v1/sign-in/callback"


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with oidc_provider([CALLBACK, "https://api/api/v1/sign-in/callback"]) as found:
        yield found


@pytest.fixture
def signed(settings: Settings, provider: Provider) -> Settings:
    """An API whose visitors can sign in."""
    return with_sign_in(settings, provider)


def with_sign_in(settings: Settings, provider: Provider, **changes: Any) -> Settings:
    options = {"sign_in": "optional", "sign_in_issuers": provider.issuer, "sign_in_client_id": "gallery", **changes}
    return Settings(**{**settings.model_dump(), "sign_in_client_secret": "a secret: with +signs% & more", **options})


async def test_a_visitor_signs_in_and_out(signed: Settings, fleet: FakeFleet):
    """The session is a cookie that no script can read and no other site's request carries."""
    async with running(signed, fleet) as client:
        answer = await sign_in(client, query="?next=/gallery?page=2")
        assert (answer.status_code, answer.headers["location"]) == (303, "/gallery?page=2")
        [session] = [each for each in answer.headers.get_list("set-cookie") if each.startswith("momalisa_session=")]
        assert {"HttpOnly", "Path=/", "SameSite=lax"} <= set(session.split("; "))
        me = (await client.get("/api/v1/me")).json()
        assert {name: me[name] for name in ("kind", "name", "email", "sign_in")} == {
            "kind": "user",
            "name": "Ada",
            "email": "ada@example.com",
            "sign_in": "optional",
        }
        assert (await client.post("/api/v1/sign-out")).status_code == 204
        assert (await client.get("/api/v1/me")).json()["kind"] == "anonymous"
