"""What holds of every role and playbook, whatever it does."""

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


def test_the_playbooks_have_the_names_of_the_first_momalisa() -> None:
    """Operators have them in their fingers."""
    assert {path.name for path in DEPLOYMENT.glob("*.yml")} >= PLAYBOOKS


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_specified_and_every_option_has_a_default(role: str) -> None:
    """A misspelt variable is refused where it is specified, and silently nothing where it is not."""
    folder = DEPLOYMENT / "roles" / role
    defaults = yaml.safe_load((folder / "defaults/main.yml").read_text())
    specs = yaml.safe_load((folder / "meta/argument_specs.yml").read_text())["argument_specs"]
    specified = {name for spec in specs.values() for name in spec["options"]}
    assert set(defaults) == specified
    assert all(name.startswith(f"{role}_") for name in defaults)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_calls_a_shell_or_holds_a_manifest(role: str) -> None:
    """What Kubernetes is told stands in k8s/; a shell would know neither check mode nor quoting."""
    texts = [path.read_text() for path in (DEPLOYMENT / "roles" / role / "tasks").glob("*.yml")]
    assert not [text for text in texts if "builtin.shell" in text or "kind: Deployment\n      spec" in text]
