"""Marks tests by their requirements: `-m "not postgres and not browser and not slow"` runs without services."""

import signal

import pytest

POSTGRES_FIXTURES = {"postgres", "emptied", "scaled", "calm"}


def pytest_configure() -> None:
    """Have Ctrl-C work in the processes that tests start: shells have background jobs ignore it, and so do these."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
