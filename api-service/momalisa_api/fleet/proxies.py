"""Which calls of the fleet go through a proxy: those to Vertex AI, where the environment names one.

Replicas are on this machine or in this cluster, where a proxy for the internet cannot reach them.
"""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from momalisa_api.fleet.vertex import PREFIX
from momalisa_api.loopback import is_loopback


def proxies_of(addresses: str) -> dict[str, httpx.AsyncHTTPTransport]:
    """httpx's mounts for the replica addresses of a deployment.

    Raises SystemExit, with what to do, if a proxy cannot be used.
    """
    mounts = {}
    for address in addresses.split():
        if address.startswith(PREFIX) and (proxy := _proxy_for(url := address.removeprefix(PREFIX))):
            try:
                mounts[f"all://{urlsplit(url).netloc}"] = httpx.AsyncHTTPTransport(proxy=proxy)
            except (ImportError, ValueError, httpx.InvalidURL) as error:
                raise SystemExit(
                    f"The proxy that the environment names for {url} cannot be used: {error}\n"
                    "Use an HTTP proxy, or name the host in NO_PROXY."
                ) from error
    return mounts


def _proxy_for(url: str) -> str | None:
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or is_loopback(url) or proxy_bypass(parts.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
