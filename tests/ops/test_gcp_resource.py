"""What gcp_resource takes for a difference, and what it says to Google. No Ansible, no network."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DEPLOYMENT = Path(__file__).parents[2] / "deployment"


def loaded(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, DEPLOYMENT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compare = loaded("module_utils/gcp_compare.py")


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
def test_what_google_adds_or_leaves_out_is_no_difference(found: object, wanted: object) -> None:
    """A playbook that changes something at every run is one that nobody dares to run."""
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
def test_what_is_not_wanted_is_a_difference(found: dict[str, object], wanted: dict[str, object]) -> None:
    """One that is missed stays broken, and the playbook says that all is well."""
    assert compare.differences(wanted, found) == list(wanted)


def test_what_is_sent_keeps_what_google_had() -> None:
    """A field that is replaced whole must not lose what others set in it."""
    assert compare.merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}


def test_a_dotted_path_leads_in_and_out() -> None:
    """GKE hides some fields of a cluster in others, and changes them by names of their own."""
    assert compare.at(compare.nested("a.b.c", 7), "a.b.c") == 7
    assert compare.at({"a": 1}, "a.b") is None
