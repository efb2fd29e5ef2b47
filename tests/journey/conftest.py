"""One deployment for all journeys: starting it is half of what they cost."""

from collections.abc import Iterator

import pytest

from tests.journey.deployment import Deployment, deployed


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("journey")) as running:
        yield running
