"""A real OpenID Connect provider (npm's oidc-provider) on this machine, and a visitor who signs in there."""

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import urljoin

import httpx

from momalisa_api.settings import Settings
from tests.support.processes import REPOSITORY, start

FOLDER = REPOSITORY / "tests" / "oidc"
FORM = re.compile(r'<form[^>]* action="([^"]+)"')
# Where it is, of all that it redirects to.
PROVIDER = "http://127.0.0.1:"
PROMPT = re.compile(r'name="prompt" value="(\w+)"')


# The client of tests/oidc/provider.mjs that has a secret, as settings. Its signs have to be encoded.
GALLERY_CLIENT = {"sign_in_client_id": "gallery", "sign_in_client_secret": "a secret: with +signs% & more"}


@dataclass(frozen=True)
class Provider:
    """The provider, and what only it can do. issuer: its URL; client: for calls of it."""

    issuer: str
    client: httpx.Client

    def rotate(self) -> None:
        """Replace all keys."""
        self.client.post(f"{self.issuer}/-/rotate").raise_for_status()

    def sign(self, claims: dict[str, Any], alg: str = "RS256", **header: Any) -> str:
        """A token with any claims, signed with the provider's own key."""
        body = {"alg": alg, "claims": claims, "header": header}
        return str(self.client.post(f"{self.issuer}/-/sign", json=body).raise_for_status().text)

    def fetched(self) -> int:
        """How often its keys have been requested."""
        return int(self.client.get(f"{self.issuer}/-/fetched").text)

    @contextmanager
    def down(self) -> Iterator[None]:
        """It closes all connections meanwhile."""
        self.client.post(f"{self.issuer}/-/down")
        try:
            yield
        finally:
            self.client.post(f"{self.issuer}/-/up")


@contextmanager
def oidc_provider(redirect_uris: Sequence[str]) -> Iterator[Provider]:
    """A provider with the clients of tests/oidc/provider.mjs. Needs `npm ci` in that folder, which `make` does."""
    assert (FOLDER / "node_modules").exists(), "the provider is not installed: make tests/oidc/node_modules"
    command = ["node", "provider.mjs", *redirect_uris]
    with start(command, cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            with httpx.Client(verify=False) as client:
                yield Provider(process.stdout.readline().strip(), client)
        finally:
            process.kill()


def with_sign_in(settings: Settings, provider: Provider, **changes: Any) -> Settings:
    """The settings of an API where visitors can sign in at the provider."""
    options = {"sign_in": "optional", "sign_in_issuers": provider.issuer, **GALLERY_CLIENT, **changes}
    return Settings(**{**settings.model_dump(), **options})


async def sign_in(client: httpx.AsyncClient, name: str = "ada", query: str = "") -> httpx.Response:
    """Sign in as a visitor does, with forms and redirects, but without a browser. Returns the callback's answer."""
    return await client.get(await callback_of(await client.get(f"/api/v1/sign-in{query}"), name))


async def callback_of(start_answer: httpx.Response, name: str = "ada") -> str:
    """Sign in at the provider. Returns the URL of the callback that it redirects to."""
    url = str(start_answer.headers["location"])
    # To read all certificates would take longer than the rest.
    async with httpx.AsyncClient(verify=False) as browser:
        answer = await browser.get(url)
        while "/api/v1/sign-in/callback" not in url:
            if answer.is_redirect:
                url = str(urljoin(url, answer.headers["location"]))
                answer = await browser.get(url) if url.startswith(PROVIDER) else answer
                continue
            form, prompt = FORM.search(answer.text), PROMPT.search(answer.text)
            assert form, answer.text
            assert prompt, answer.text
            fields = {"prompt": prompt[1], "login": name, "password": "any"}
            answer = await browser.post(urljoin(url, unescape(form[1])), data=fields)
    return url
