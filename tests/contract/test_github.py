"""The files for GitHub: it reports mistakes in them only after a push, and some not at all."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
ACTIONS = sorted(GITHUB.glob("actions/*/action.yml"))
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "custom.github-workflows-require-timeout": WORKFLOWS,
    "vendor.github-actions": ACTIONS,
    "vendor.dependabot": [GITHUB / "dependabot.yml"],
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.github-issue-forms": [GITHUB / "ISSUE_TEMPLATE" / f"{form}.yml" for form in ("bug", "feature")],
}
USES = re.compile(r"^ *-? ?uses: (?!\./)(?P<action>\S+?)@(?P<commit>\S+)(?P<comment>.*)$", re.MULTILINE)


def jobs() -> list[dict[str, Any]]:
    return [job for path in WORKFLOWS for job in yaml.safe_load(path.read_text())["jobs"].values()]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_file_fits_its_schema(schema):
    """GitHub ignores a file that it cannot read."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *SCHEMAS[schema]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_action_is_pinned_to_a_commit(path):
    """A tag can be moved to other code; a commit cannot. Dependabot updates both the commit and the comment."""
    for action, commit, comment in USES.findall(path.read_text()):
        assert re.fullmatch("[0-9a-f]{40}", commit), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_unless_a_job_says_more(path):
    """By default the token can also write, which makes it worth stealing."""
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}


def test_no_checkout_keeps_the_token():
    """Later steps run the code of a pull request."""
    checkouts = [step for job in jobs() for step in job.get("steps", []) if "actions/checkout@" in step.get("uses", "")]
    assert len(checkouts) >= 5
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_every_make_target_that_a_workflow_runs_exists():
    """CI runs the same commands as contributors."""
    for job in jobs():
        for step in job.get("steps", []):
            for target in re.findall(r'\bmake "?([a-z$A-Z-]+)', step.get("run", "")):
                areas = job.get("strategy", {}).get("matrix", {}).get("area", [""])
                assert {target.replace("$AREA", area) for area in areas} <= make_targets()


def test_the_areas_cover_all_tests():
    """A folder in no area would be tested only by `make check`."""
    [areas] = [
        job["strategy"]["matrix"]["area"] for job in jobs() if "area" in job.get("strategy", {}).get("matrix", {})
    ]
    makefile = (ROOT / "Makefile").read_text()
    recipes = [re.search(rf"^test-{area}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1] for area in areas]
    folders = {str(path.parent.relative_to(ROOT)) for path in (ROOT / "tests").glob("*/test_*.py")}
    assert {folder for recipe in recipes for folder in re.findall(r"tests/\w+", recipe)} == folders


def test_every_make_target_that_the_pull_request_template_names_exists():
    """Contributors ignore a checklist with a command that fails."""
    named = set(re.findall(r"`make ([a-z-]+)`", (GITHUB / "PULL_REQUEST_TEMPLATE.md").read_text()))
    assert named
    assert named <= make_targets()


def test_every_image_of_the_compose_file_is_pushed_with_a_release():
    """And the CUDA image, which the manifests use, and the one with the tools of deployment."""
    images = yaml.safe_load((GITHUB / "workflows" / "images.yml").read_text())["jobs"]["images"]
    pushed = {(row["image"], row.get("suffix", "")) for row in images["strategy"]["matrix"]["include"]}
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    built = {service["image"].split("/")[1].split(":")[0] for service in services if "build" in service}
    assert pushed == {(image, "") for image in built} | {("model", "-cuda"), ("deploy", "")}
    for row in images["strategy"]["matrix"]["include"]:
        assert (ROOT / row["dockerfile"]).is_file()


def test_every_pre_commit_hook_runs_a_tool_of_the_environment():
    """A hook with another version of a tool would format the code differently from `make lint`."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {repository["repo"] for repository in config["repos"]} == {"local"}
    for hook in hooks:
        tools = re.findall(r"\.venv/bin/([a-z-]+)", hook["entry"])
        assert all((Path(sys.executable).parent / tool).is_file() for tool in tools)
        assert tools or hook["id"] == "eslint"
