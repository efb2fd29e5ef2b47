"""Calls of the fleet: replicas are reached directly, and Vertex AI as the environment says."""

import httpx
import pytest

from momalisa_api.app import create_app
from momalisa_api.fleet.proxies import proxies_of

VERTEX = "vertex+https://eu.example.com/v1/projects/p/locations/l/endpoints/7#4"
ADDRESSES = f"http://10.0.0.1:8100 dns+http://model:8100 {VERTEX}"
pytestmark = pytest.mark.anyio


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
async def test_only_vertex_ai_is_called_through_a_proxy(environment, variable):
    """The address of a pod or a container means nothing to a proxy."""
    environment.setenv(variable, "http://proxy:3128")
    assert list(proxies_of(ADDRESSES)) == ["all://eu.example.com"]


@pytest.mark.parametrize(
    "variables",
    [{}, {"HTTP_PROXY": "http://proxy:3128"}, {"ALL_PROXY": "http://proxy:3128", "NO_PROXY": ".example.com"}],
)
async def test_vertex_ai_is_called_directly_where_the_environment_says_so(environment, variables):
    """No proxy, one for another scheme, an exception."""
    for name, value in variables.items():
        environment.setenv(name, value)
    assert proxies_of(ADDRESSES) == {}


async def test_a_proxy_that_cannot_be_used_is_a_sentence(environment):
    """Only where it would be used: replicas need none."""
    environment.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    assert proxies_of("http://10.0.0.1:8100") == {}
    with pytest.raises(SystemExit, match="Use an HTTP proxy, or name the host in NO_PROXY"):
        proxies_of(ADDRESSES)


async def test_the_client_of_the_fleet_gets_the_proxies(environment, settings):
    """And no others, which `trust_env` would add."""
    environment.setenv("HTTPS_PROXY", "http://proxy:3128")
    environment.setenv("HTTP_PROXY", "http://proxy:3128")
    clients: list[httpx.AsyncClient] = []

    def make_client(**options: object) -> httpx.AsyncClient:
        clients.append(httpx.AsyncClient(**options))
        return clients[-1]

    app = create_app(
        settings.model_copy(update={"replicas": f"http://10.0.0.1:9 {VERTEX}", "role": "web"}), make_client
    )
    async with app.router.lifespan_context(app):
        [client] = clients
        assert [str(pattern.pattern) for pattern in client._mounts] == ["all://eu.example.com"]
