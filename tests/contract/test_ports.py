"""Ports of the services that tests start."""

import pytest

from tests.support.processes import _own_ports


def test_the_processes_of_a_run_never_try_the_same_port(monkeypatch: pytest.MonkeyPatch):
    """Both would find it free, and the service that starts last would end at once."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    found = []
    for worker in ("gw0", "gw1"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        found.append(set(_own_ports()))
    assert all(len(ports) > 500 for ports in found)
    assert found[0].isdisjoint(found[1])
