"""The files of tests that share a process."""

from pathlib import Path

import pytest

from tests.support.distribution import TOGETHER

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("name", sorted(set.union(*TOGETHER)))
def test_a_name_of_the_distribution_is_a_folder_or_file_of_tests(name: str) -> None:
    """After a renaming, two processes would start the same deployment."""
    assert [*TESTS.glob(name), *TESTS.glob(f"*/{name}")]
