"""Run ansible-playbook as an operator does, and read its results."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ops.fake_api_server import TOKEN
from tests.ops.fake_google.cloud import PROJECT, FakeGoogleCloud
from tests.ops.warm_python import warm_python

DEPLOYMENT = Path(__file__).parents[2] / "deployment"
ANSIBLE = Path(sys.executable).parent / "ansible-playbook"
LIMIT_S = 600


@dataclass
class PlaybookRun:
    """One run. `tasks`: (name, result) of every task on every host; loops give one result per item."""

    code: int
    text: str
    tasks: list[tuple[str, dict[str, Any]]]

    @property
    def error(self) -> str:
        """The messages of failed tasks, or the end of the output; empty after a success."""
        failed = [f"{name}: {result.get('msg')}" for name, result in self.tasks if result.get("failed")]
        return "; ".join(failed) or (self.text[-2000:] if self.code else "")

    @property
    def changed(self) -> list[str]:
        """The names of the tasks that changed something."""
        return [name for name, result in self.tasks if result.get("changed")]


class Operator:
    """Someone who runs playbooks, with a home folder and an SSH key.

    warm: run the modules in a Python that has imported their packages already, which takes less than half of the time;
    all hosts must be this machine. environment: further environment variables.
    """

    def __init__(self, folder: Path, *, warm: bool = False, **environment: str) -> None:
        (folder / ".ssh").mkdir(exist_ok=True)
        (folder / ".ssh" / "id_ed25519.pub").write_text("ssh-ed25519 AAAA fake\n")
        self.folder = folder
        self._python = {"ansible_python_interpreter": str(warm_python())} if warm else {}
        self._environment = {
            "PATH": f"{ANSIBLE.parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_CONFIG": str(DEPLOYMENT / "ansible.cfg"),
            "ANSIBLE_PIPELINING": "True",
        } | environment

    def play(self, playbook: str, *arguments: str, **variables: Any) -> PlaybookRun:
        """Run a playbook, which may fail."""
        # Never a real cluster, to which a kubeconfig in the checkout may point.
        kubeconfig = str(self.folder / "kubeconfig")
        kubeconfigs = {"gke_cluster_kubeconfig": kubeconfig, "k8s_release_kubeconfig": kubeconfig}
        variables = self._python | kubeconfigs | variables
        done = subprocess.run(
            [ANSIBLE, DEPLOYMENT / playbook, "-e", json.dumps(variables), *arguments],
            env=self._environment,
            cwd=DEPLOYMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        start = done.stdout.find("{")
        report = json.loads(done.stdout[start:]) if start >= 0 else {"plays": []}
        return PlaybookRun(done.returncode, done.stdout + done.stderr, list(_results(report)))


def google_operator(google: FakeGoogleCloud, folder: Path, *, warm: bool = True, **environment: str) -> Operator:
    """An operator with a project at the fake Google Cloud and a token for it, who trusts its certificate."""
    return Operator(
        folder,
        warm=warm,
        GCP_PROJECT=PROJECT,
        GCP_API_ENDPOINT=f"{google.url}/{{api}}",
        GCP_ACCESS_TOKEN=TOKEN,
        REQUESTS_CA_BUNDLE=str(folder / "ca.pem"),
        **environment,
    )


def _results(report: dict[str, Any]) -> Any:
    for play in report["plays"]:
        for task in play["tasks"]:
            for result in task["hosts"].values():
                for each in result.get("results", [result]):
                    yield task["task"]["name"].rpartition(" : ")[2], each
