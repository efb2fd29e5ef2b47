"""Fetching pictures by URL: which addresses are refused, and that a checked address is the one that is connected to."""

import ssl
from pathlib import Path

import pytest

from momalisa_api.pictures import download, pinned
from momalisa_api.pictures.addresses import is_public
from momalisa_api.pictures.download import MAX_REDIRECTS, Downloads
from momalisa_api.problems import AddressRefused, BodyTooLarge, FetchFailed
from tests.ops.certificates import certificate
from tests.support.web_site import WebSite, web_site

PUBLIC = "93.184.215.14"
# What a hostile resolver answers, by name. A name alone never decides.
NAMES = {
    "public.example": [PUBLIC],
    "loopback.example": ["127.0.0.1"],
    "mixed.example": [PUBLIC, "127.0.0.1"],
    "private.example": ["10.1.2.3"],
    "home.example": ["192.168.1.1"],
    "middle.example": ["172.16.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "azure.example": ["168.63.129.16"],
    "alibaba.example": ["100.100.100.200"],
    "oracle.example": ["192.0.0.192"],
    "link.example": ["fe80::1"],
    "unique.example": ["fd00:ec2::254"],
    "site.example": ["fec0::1"],
    "loopback6.example": ["::1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "compatible.example": ["::127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "local-nat64.example": ["64:ff9b:1::7f00:1"],
    "sixtofour.example": ["2002:7f00:1::"],
    "nested.example": ["2002:a9fe:a9fe::1"],
    "teredo.example": ["2001:0:4136:e378:8000:63bf:80ff:fffe"],
    "multicast.example": ["224.0.0.1"],
    "multicast6.example": ["ff02::1"],
    "broadcast.example": ["255.255.255.255"],
    "reserved.example": ["240.0.0.1"],
    "unspecified.example": ["0.0.0.0"],
    "this-network.example": ["0.1.2.3"],
    "benchmark.example": ["198.18.0.1"],
    "documentation.example": ["192.0.2.1"],
    "documentation6.example": ["2001:db8::1"],
    "anycast.example": ["192.88.99.1"],
    "garbage.example": ["not an address"],
    "empty.example": [],
}
HOSTILE = [
    *(f"http://{name}/cat.png" for name in NAMES if name != "public.example"),
    "http://127.0.0.1/",
    "http://[::1]/",
    "http://[::ffff:169.254.169.254]/latest/meta-data/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://017700000001/",
    "http://127.1/",
    "http://localhost/",
    "http://user:password@public.example/",
    "http://public.example@127.0.0.1/",
    "http://public.example:22/",
    "http://public.example:8000/",
    "https://public.example:0/",
    "ftp://public.example/cat.png",
    "file:///etc/passwd",
    "gopher://public.example/",
    "data:image/png;base64,AAAA",
    "//public.example/cat.png",
    "http:///cat.png",
    "http://",
    "http://[fe80::1%25eth0]/",
    "http://exa mple/",
    "http://public.example:99999/",
    "",
]

pytestmark = pytest.mark.anyio


async def resolve(host: str, port: int) -> list[str]:
    """The resolver of the tests; names of digits become addresses, as the system's resolver makes them."""
    if host in NAMES:
        return NAMES[host]
    return {"localhost": ["127.0.0.1"], "0x7f.1": ["127.0.0.1"]}.get(host) or await pinned.Resolver().resolve(
        host, port
    )


def downloads(site: WebSite, **names: list[str]) -> Downloads:
    """Downloads for which the site's address is a public one; names: further hosts."""
    known = {"site.test": ["127.0.0.1"], **names}

    async def known_hosts(host: str, port: int) -> list[str]:
        return known[host]

    return Downloads(frozenset({site.port}), known_hosts, allowed=lambda address: address == "127.0.0.1")


async def fetched(source: Downloads, url: str) -> bytes:
    content = bytearray()

    async def write(chunk: bytes) -> None:
        content.extend(chunk)

    await source.fetch(url, write)
    return bytes(content)


@pytest.mark.parametrize("url", HOSTILE)
async def test_a_hostile_address_is_refused_before_a_connection(url: str, monkeypatch):
    """Whoever can make the server connect to internal addresses can read clouds' credentials."""

    async def connect(*_: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(download, "first_answer", connect)
    with pytest.raises(AddressRefused):
        await fetched(Downloads(frozenset({80, 443}), resolve), url)


@pytest.mark.parametrize("address", [PUBLIC, "2606:4700::1111", "64:ff9b::5db8:d70e", "::ffff:93.184.215.14"])
def test_public_addresses_are_allowed(address: str):
    """Also in the forms that an IPv6-only network gives them."""
    assert is_public(address)


async def test_a_picture_is_fetched_with_nothing_but_the_request():
    """No cookie, no credentials, no compression; the host's name goes along, but the connection to the address."""
    async with web_site() as site:
        site.serve("/cat.png?a=b", b"meow" * 1000)
        assert await fetched(downloads(site), f"http://site.test:{site.port}/cat.png?a=b#x") == b"meow" * 1000
        [head] = site.seen
        assert f"\r\nHost: site.test:{site.port}\r\n" in head
        assert "identity" in head
        assert "cookie" not in head.lower()
        assert "authorization" not in head.lower()


@pytest.mark.parametrize(("name", "accepted"), [("site.test", True), ("127.0.0.1", False), ("other.test", False)])
async def test_the_certificate_must_be_that_of_the_name(tmp_path: Path, name: str, accepted: bool):
    """The connection goes to an address, for which no public site has a certificate."""
    async with web_site(certificate(tmp_path, name)) as site:
        site.serve("/", b"meow")
        tls = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        source = Downloads(frozenset({site.port}), _loopback, allowed=lambda address: True, tls=tls)
        if accepted:
            assert await fetched(source, f"https://site.test:{site.port}/") == b"meow"
        else:
            with pytest.raises(FetchFailed):
                await fetched(source, f"https://site.test:{site.port}/")


async def _loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


async def test_redirects_are_checked_like_the_first_address():
    """A public page can redirect to an internal one, and a second lookup can answer with another address."""
    async with web_site() as site:
        site.redirect("/1", "/2")
        site.redirect("/2", f"http://site.test:{site.port}/cat")
        site.serve("/cat", b"meow")
        assert await fetched(downloads(site), f"http://site.test:{site.port}/1") == b"meow"
        assert not any("a=b" in head for head in site.seen)
        for hostile in (
            "http://internal.test/",
            f"http://internal.test:{site.port}/",
            "file:///etc/passwd",
            "//a@site.test/",
        ):
            site.redirect("/away", hostile)
            site.seen.clear()
            with pytest.raises(AddressRefused):
                await fetched(downloads(site, **{"internal.test": ["10.0.0.1"]}), f"http://site.test:{site.port}/away")
            assert len(site.seen) == 1
        site.redirect("/loop", "/loop")
        site.seen.clear()
        with pytest.raises(FetchFailed, match="redirects more than"):
            await fetched(downloads(site), f"http://site.test:{site.port}/loop")
        assert len(site.seen) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "nowhere"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "broke"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer"),
        (b"", "does not answer"),
    ],
)
async def test_a_server_that_fails_is_a_problem_of_the_address(answer: bytes, reason: str):
    """It is not a fault of this service, and a client must not repeat it blindly."""
    async with web_site() as site:
        site.answers["/"] = answer
        with pytest.raises(FetchFailed, match=reason):
            await fetched(downloads(site), f"http://site.test:{site.port}/")


async def test_a_server_that_sends_for_ever_is_cut_off():
    """By the limit on bytes, or by the limit on time."""
    async with web_site() as site:
        site.answers["/"] = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000

        async def write(_: bytes) -> None:
            raise BodyTooLarge("enough")

        with pytest.raises(BodyTooLarge):
            await downloads(site).fetch(f"http://site.test:{site.port}/", write)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(download, "FETCH_S", 0.0)
            with pytest.raises(FetchFailed, match="did not arrive"):
                await fetched(downloads(site), f"http://site.test:{site.port}/")


async def test_the_next_address_is_tried_if_one_does_not_accept_connections():
    """Hosts have IPv6 addresses that some networks cannot reach."""
    async with web_site() as site:
        site.serve("/", b"meow")

        async def two(host: str, port: int) -> list[str]:
            return ["127.0.0.2", "127.0.0.1"]

        source = Downloads(frozenset({site.port}), two, allowed=lambda address: True)
        assert await fetched(source, f"http://site.test:{site.port}/") == b"meow"


async def test_fetching_can_be_switched_off():
    """Some deployments must not connect to the internet."""
    with pytest.raises(AddressRefused, match="fetches no files"):
        await fetched(Downloads(frozenset(), resolve), "http://public.example/")
