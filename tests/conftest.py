"""Marks tests by their requirements: `-m "not postgres and not browser and not slow"` runs without services."""

import os
import signal
from typing import Any

import pytest

from tests.support.distribution import ByDeployment

POSTGRES_FIXTURES = {"postgres", "emptied", "scaled", "calm"}


def pytest_configure() -> None:
    """Have Ctrl-C work in the processes that tests start, and these reach each other without a proxy."""
    # Shells have background jobs ignore Ctrl-C, and their processes inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("ALL_PROXY", "all_proxy"):
        # Even with NO_PROXY, httpx would need a package for SOCKS.
        os.environ.pop(name, None)
    reached_directly = [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1", "localhost", "::1"]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, reached_directly))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByDeployment | None:
    """Have --dist=loadfile start each deployment once."""
    return ByDeployment(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that use PostgreSQL, by their fixtures, and browser tests, by their folder."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if POSTGRES_FIXTURES & {*getattr(item, "fixturenames", ()), parameters.get("url")}:
            item.add_marker("postgres")
        if "browser" in item.path.parts:
            item.add_marker("browser")
        if {"journey", "ops"} & set(item.path.parts):
            item.add_marker("slow")
