"""The comparison in gcp_resource, without Ansible and without a network."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DEPLOYMENT = Path(__file__).parents[2] / "deployment"


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, DEPLOYMENT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compare = load("module_utils/gcp_compare.py")


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}),
        ({"size": "50"}, {"size": 50}),
        ({}, {"enabled": False}),
        ({"addon": {}}, {"addon": {"enabled": False}}),
        ({}, {"addon": {"enabled": False}}),
        ({}, {"rule": []}),
        ({"disk": "https://www.googleapis.com/compute/v1/projects/p/zones/z/disks/d"}, {"disk": "zones/z/disks/d"}),
        ({"list": [{"name": "a", "id": 1}]}, {"list": [{"name": "a"}]}),
    ],
)
def test_what_google_adds_or_omits_is_no_difference(found: object, wanted: object) -> None:
    """Operators do not dare to run a playbook that changes something in every run."""
    assert compare.differences(wanted, found) == []


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}),
        ({"a": "true"}, {"a": True}),
        ({}, {"a": {"enabled": True}}),
        ({"a": [1]}, {"a": []}),
        ({"a": [1, 2]}, {"a": [1]}),
        ({"a": [2, 1]}, {"a": [1, 2]}),
        ({"disk": "https://www.googleapis.com/compute/v1/projects/p/zones/z/disks/dd"}, {"disk": "disks/d"}),
        ({"enabled": True}, {"enabled": False}),
    ],
)
def test_an_unwanted_value_is_a_difference(found: dict[str, object], wanted: dict[str, object]) -> None:
    """The playbook would leave an undetected difference in place and report success."""
    assert compare.differences(wanted, found) == list(wanted)


def test_an_update_keeps_existing_values() -> None:
    """An update that replaces a whole field must not lose values in it that another user has set."""
    assert compare.merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}


def test_a_dotted_path_reads_and_builds_nested_values() -> None:
    """GKE changes some nested fields of a cluster under different names."""
    assert compare.at(compare.nested("a.b.c", 7), "a.b.c") == 7
    assert compare.at({"a": 1}, "a.b") is None
