"""The documents agree with the code: the settings, commands, links, paths and modules that they name exist."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic_settings import BaseSettings

from momalisa_api.problems import Problem
from momalisa_api.settings import Settings as ApiSettings
from momalisa_api.web.request import WalkRequest
from momalisa_api.web.routes.schemas import WalkResource
from momalisa_model.settings import Settings as ModelSettings

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
CONFIGURATION = ROOT / "docs" / "configuration.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
API_GUIDE = ROOT / "docs" / "api.md"
DECISIONS = ROOT / "docs" / "adr"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
API, MODEL = ROOT / "api-service" / "momalisa_api", ROOT / "model-service" / "momalisa_model"
LONGEST_README, LONGEST_LINE = 130, 120
ROW = re.compile(r"^\| (`[A-Z0-9_, `]+`) \| `?([^|`]*)`? \| ([^|]+) \|$", re.MULTILINE)
LINK = re.compile(r"\]\(([^()\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
# GitHub resolves these against the repository: the path after the branch's name.
WORKFLOW = re.compile(r"^\.\./\.\./actions/workflows/([\w.-]+\.yml)(?:/badge\.svg)?$")
FOLDERS = "api-service|bench|deployment|docs|frontend|k8s|model-service|requirements|scripts|tests"
REPOSITORY_PATH = re.compile(rf"(?<![\w/.-])(?:{FOLDERS})/(?:[\w./*-]|{{[\w,]+}})+")
# In deployment/roles/ROLE/defaults/main.yml, for example.
PLACEHOLDER = re.compile(r"(?:^|/)[A-Z]{2,}(?:[/.]|$)")
API_MODULE = re.compile(r"`((?:cli|web|work|store|fleet|films|walks)/[\w/]+\.py)`")

# These also name files that were removed.
RECORDS = {ROOT / "CHANGELOG.md", *DECISIONS.glob("*.md")}


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


each_page = pytest.mark.parametrize("page", PAGES, ids=named)


def section(page: Path, heading: str) -> str:
    """The text of a page below a heading, up to the next one of the same or a higher level."""
    level = heading.partition(" ")[0]
    _, _, below = page.read_text().partition(f"\n{heading}\n")
    assert below, f"{page.name} has no heading {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", below, maxsplit=1, flags=re.MULTILINE)[0]


def documented_settings(heading: str) -> dict[str, tuple[str, str]]:
    """Variable -> (default, description) of the table below a heading."""
    table = section(CONFIGURATION, heading)
    return {found[1].strip("`").split("`")[0]: (found[2], found[3]) for found in ROW.finditer(table)}


def code_of(page: Path) -> list[str]:
    """Inline code and code blocks of a page."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return blocks + re.findall(r"`([^`\n]+)`", prose_of(page))


def prose_of(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    found: dict[str, int] = {}
    anchors = set()
    for heading in re.findall(r"^#{1,6} (.+)$", prose_of(page), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        times = found[anchor] = found.get(anchor, -1) + 1
        anchors.add(f"{anchor}-{times}" if times else anchor)
    return anchors


def broken_links(page: Path) -> Iterator[str]:
    for found in LINK.finditer(prose_of(page)):
        link = found[1] or found[2]
        if workflow := WORKFLOW.match(link):
            if not (ROOT / ".github" / "workflows" / workflow[1]).is_file():
                yield link
        elif not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors_of(target)):
                yield link


def wrapped_prose(page: Path) -> Iterator[str]:
    """Lines that can be wrapped: no tables, no markup, no single long word."""
    for line in prose_of(page).splitlines():
        if not line.startswith(("|", "<", "#", "  <", "![", "[![")) and " " in line.strip():
            yield line


@pytest.mark.parametrize(
    ("settings", "heading"), [(ApiSettings, "## API service"), (ModelSettings, "## Model service")]
)
def test_every_setting_is_documented_with_its_default(settings: type[BaseSettings], heading: str):
    """Names, defaults and descriptions; no setting is missing, none is obsolete."""
    documented = documented_settings(heading)
    assert set(documented) == {f"MOMALISA_{name.upper()}" for name in settings.model_fields}
    for name, field in settings.model_fields.items():
        default, description = documented[f"MOMALISA_{name.upper()}"]
        assert description == field.description
        if not field.is_required() and field.default is not None and field.default_factory is None:
            assert default == str(field.default)


def test_every_make_target_that_the_documents_name_exists():
    """Above all the commands of the quick start."""
    makefile = (ROOT / "Makefile").read_text()
    targets = {
        named(page): {target for code in code_of(page) for target in re.findall(r"\bmake ([a-z][a-z0-9-]*)", code)}
        for page in PAGES
    }
    assert {"walk", "up", "test"} <= targets["README.md"]
    assert {"check", "bench"} <= targets["CONTRIBUTING.md"]
    for target in set().union(*targets.values()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize(("model", "heading"), [(WalkRequest, "## Request a walk"), (WalkResource, "## Follow a walk")])
def test_every_field_of_the_api_is_documented(model: type[BaseModel], heading: str):
    """No field is missing, and none is obsolete."""
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section(API_GUIDE, heading), re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"\w+", row)}
    assert documented == set(model.model_fields)


def test_every_problem_of_the_api_is_documented():
    """Clients compare these slugs."""
    documented = set(re.findall(r"`([a-z-]+)`", section(API_GUIDE, "## Errors")))
    answered = {problem.slug for problem in every_kind(Problem)} | {Problem.slug}
    assert answered - documented == set()


def every_kind(kind: type[Problem]) -> Iterator[type[Problem]]:
    for narrower in kind.__subclasses__():
        yield from (narrower, *every_kind(narrower))


def test_the_readme_is_short():
    """A newcomer should read it to the end. Details belong in docs/."""
    assert len(README.read_text().splitlines()) <= LONGEST_README


@each_page
def test_links_point_to_something_that_exists(page: Path):
    """A renamed heading breaks links on other pages."""
    assert set(broken_links(page)) == set()


@each_page
def test_prose_is_wrapped(page: Path):
    """Lines of one length make reviews readable."""
    assert [line for line in wrapped_prose(page) if len(line) > LONGEST_LINE] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page not in RECORDS], ids=named)
def test_files_that_a_page_names_exist(page: Path):
    """Readers look for them."""
    code = "\n".join(code_of(page))
    paths = {path.rstrip("./") for path in REPOSITORY_PATH.findall(code)}
    expanded = {path for name in paths for path in alternatives(name) if not PLACEHOLDER.search(path)}
    assert [path for path in sorted(expanded) if not list(ROOT.glob(path))] == []
    assert [path for path in API_MODULE.findall(prose_of(page)) if not (API / path).is_file()] == []


def alternatives(path: str) -> list[str]:
    """a/{b,c} -> a/b, a/c."""
    found = re.match(r"(.*)\{([\w,]+)\}(.*)", path)
    return [f"{found[1]}{middle}{found[3]}" for middle in found[2].split(",")] if found else [path]


def test_pages_that_the_code_names_exist():
    """Comments refer to the documents."""
    listed = subprocess.run(
        ["git", "grep", "-I", "--only-matching", "-h", "-E", r"docs/[a-z0-9/_-]+\.md"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert [name for name in sorted(set(listed.stdout.split())) if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("package", [API, MODEL], ids=lambda package: package.name)
def test_every_module_is_on_the_map(package: Path):
    """Readers look up modules there."""
    page = ARCHITECTURE.read_text()
    modules = {path for path in package.rglob("*.py") if "versions" not in path.parts and path.stem != "__init__"}
    named = set(re.findall(r"[`/](\w+)(?:\.py)?`", page))
    folders = {"routes", "migrations"}
    unnamed = {path.stem for path in modules if path.stem not in named and path.parent.name not in folders}
    assert unnamed == set()


def test_the_two_drawings_differ_in_colours_only():
    """Both are drawn by hand. Half of the readers would not see a change to only one of them."""
    light, dark = ((ROOT / "docs" / f"architecture-{name}.svg").read_text() for name in ("light", "dark"))
    without_style = [re.sub(r"<style>.*</style>", "", drawing, flags=re.DOTALL) for drawing in (light, dark)]
    assert without_style[0] == without_style[1]
    without_colours = [re.sub(r"#[0-9a-f]{6}", "", drawing) for drawing in (light, dark)]
    assert without_colours[0] == without_colours[1]


def test_every_decision_is_complete_and_in_the_index():
    """With number, status and date; context, decision and consequences."""
    index = (DECISIONS / "README.md").read_text()
    pages = sorted(DECISIONS.glob("[0-9]*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:04d}" for number in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text()
        title = re.match(rf"# {page.name[:4]}\. (.+)\n", text)
        status = re.search(r"^- Status: (.+)$", text, re.MULTILINE)
        date = re.search(r"^- Date: (\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
        assert title, page.name
        assert status, page.name
        assert date, page.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE)[:3] == ["Context", "Decision", "Consequences"], page.name
        assert f"| [{page.name[:4]}]({page.name}) | {title[1]} | {status[1]} | {date[1]} |" in index
