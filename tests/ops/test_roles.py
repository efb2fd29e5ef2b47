"""Rules for every role and playbook."""

from pathlib import Path

import pytest
import yaml

DEPLOYMENT = Path(__file__).parents[2] / "deployment"
ROLES = sorted(path.name for path in (DEPLOYMENT / "roles").iterdir())
PLAYBOOKS = {
    "deploy-docker-images.yml",
    "deploy-create-instance.yml",
    "deploy-provision-instance.yml",
    "deploy-setup-containers.yml",
    "deploy-setup-webserver.yml",
    "deploy-k8s-cluster.yml",
    "deploy-vertex-endpoint.yml",
    "teardown.yml",
    "site-vm.yml",
    "site-gke.yml",
}


def test_the_playbooks_keep_their_names() -> None:
    """Operators type them from memory and call them from scripts."""
    assert {path.name for path in DEPLOYMENT.glob("*.yml")} >= PLAYBOOKS


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_specified_and_every_option_has_a_default(role: str) -> None:
    """Ansible rejects a wrong type of a specified variable, and ignores an unspecified one silently."""
    folder = DEPLOYMENT / "roles" / role
    defaults = yaml.safe_load((folder / "defaults/main.yml").read_text())
    specs = yaml.safe_load((folder / "meta/argument_specs.yml").read_text())["argument_specs"]
    specified = {name for spec in specs.values() for name in spec["options"]}
    assert set(defaults) == specified
    assert all(name.startswith(f"{role}_") for name in defaults)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_calls_a_shell_or_holds_a_manifest(role: str) -> None:
    """Manifests belong to k8s/. A shell supports neither check mode nor safe quoting."""
    texts = [path.read_text() for path in (DEPLOYMENT / "roles" / role / "tasks").glob("*.yml")]
    assert not [text for text in texts if "builtin.shell" in text or "kind: Deployment\n      spec" in text]
