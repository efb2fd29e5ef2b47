"""ansible-playbook as an operator runs it, and what it says of itself."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ops.fake_api_server import TOKEN
from tests.ops.fake_google.cloud import PROJECT, FakeGoogleCloud

DEPLOYMENT = Path(__file__).parents[2] / "deployment"
ANSIBLE = Path(sys.executable).parent / "ansible-playbook"
LIMIT_S = 600


@dataclass
class PlaybookRun:
    """One run. `tasks`: (name, result) of every task on every host, loops' items one by one."""

    code: int
    text: str
    tasks: list[tuple[str, dict[str, Any]]]

    @property
    def why(self) -> str:
        """What went wrong, if anything did."""
        failed = [f"{name}: {result.get('msg')}" for name, result in self.tasks if result.get("failed")]
        return "; ".join(failed) or (self.text[-2000:] if self.code else "")

    @property
    def changed(self) -> list[str]:
        return [name for name, result in self.tasks if result.get("changed")]


class Operator:
    """Who calls, with a home and a key of their own. environment: what else their shell holds."""

    def __init__(self, folder: Path, **environment: str) -> None:
        (folder / ".ssh").mkdir(exist_ok=True)
        (folder / ".ssh" / "id_ed25519.pub").write_text("ssh-ed25519 AAAA made up\n")
        self.folder = folder
        self._environment = {
            "PATH": f"{ANSIBLE.parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_CONFIG": str(DEPLOYMENT / "ansible.cfg"),
            "ANSIBLE_PIPELINING": "True",
        } | environment

    def play(self, playbook: str, *arguments: str, **variables: Any) -> PlaybookRun:
        """Run a playbook. Succeeds or not: `code` says it."""
        # Never the operator's own cluster, which a kubeconfig in the checkout would lead to.
        kubeconfig = str(self.folder / "kubeconfig")
        here = {"gke_cluster_kubeconfig": kubeconfig, "k8s_release_kubeconfig": kubeconfig} | variables
        done = subprocess.run(
            [ANSIBLE, DEPLOYMENT / playbook, "-e", json.dumps(here), *arguments],
            env=self._environment,
            cwd=DEPLOYMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        start = done.stdout.find("{")
        told = json.loads(done.stdout[start:]) if start >= 0 else {"plays": []}
        return PlaybookRun(done.returncode, done.stdout + done.stderr, list(_results(told)))


def customer(google: FakeGoogleCloud, folder: Path, **environment: str) -> Operator:
    """An operator with a project at the fake Google Cloud, a token for it, and its authority trusted."""
    return Operator(
        folder,
        GCP_PROJECT=PROJECT,
        GCP_API_ENDPOINT=f"{google.url}/{{api}}",
        GCP_ACCESS_TOKEN=TOKEN,
        REQUESTS_CA_BUNDLE=str(folder / "ca.pem"),
        **environment,
    )


def _results(told: dict[str, Any]) -> Any:
    for play in told["plays"]:
        for task in play["tasks"]:
            for result in task["hosts"].values():
                for each in result.get("results", [result]):
                    yield task["task"]["name"].rpartition(" : ")[2], each
