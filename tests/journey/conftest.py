"""One deployment of each kind for all journeys: starting it takes half of their time."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.deployment import Deployment, deployed
from tests.support.scaled import Scaled
from tests.support.scaled import calm as calm_beside
from tests.support.scaled import scaled as scaled_out
from tests.support.takeovers import new_request


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("journey")) as running:
        yield running


@pytest.fixture(scope="module")
def starting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scaled]:
    """Web and workers, started but perhaps not ready yet. The replicas may not run."""
    with scaled_out(tmp_path_factory.mktemp("scaled")) as running:
        yield running


@pytest.fixture
def scaled(starting: Scaled) -> Scaled:
    """Web, workers and replicas, all of them ready."""
    starting.wait_until_ready()
    return starting


@pytest.fixture(scope="module")
def calm(starting: Scaled, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with calm_beside(tmp_path_factory.mktemp("calm"), starting.replicas) as running:
        yield running


@pytest.fixture
def walk_request() -> dict[str, Any]:
    """The body of a request for a walk that does not exist yet."""
    return new_request()
