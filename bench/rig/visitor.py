"""A visitor's page: one walk, watched by its event stream as the gallery does it, without polling."""

import json
from collections.abc import Iterator
from typing import Any

import httpx


def snapshots(client: httpx.Client, walk: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each snapshot of a walk, until it ends."""
    with client.stream("GET", walk["url"] + "/events", timeout=300) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))
