"""The README is held against the code: an undocumented setting fails here."""

import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from momalisa_api.settings import Settings as ApiSettings
from momalisa_model.settings import Settings as ModelSettings

README = (Path(__file__).parents[2] / "README.md").read_text()
ROW = re.compile(r"^\| (`[A-Z_, `]+`) \| `?([^|`]*)`? \| ([^|]+) \|$", re.MULTILINE)


def rows(after: str, before: str) -> dict[str, tuple[str, str]]:
    """Variable -> (default, description) of the table between two lines of the README."""
    table = README.split(after)[1].split(before)[0]
    return {found[1].strip("`").split("`")[0]: (found[2], found[3]) for found in ROW.finditer(table)}


@pytest.mark.parametrize(
    ("settings", "after", "before"),
    [(ApiSettings, "The api:", "A replica:"), (ModelSettings, "A replica:", "## Licence")],
)
def test_every_setting_stands_in_the_readme_with_its_default(settings: type[BaseSettings], after: str, before: str):
    """Names, defaults and descriptions; neither more nor less."""
    documented = rows(after, before)
    assert set(documented) == {f"MOMALISA_{name.upper()}" for name in settings.model_fields}
    for name, field in settings.model_fields.items():
        default, description = documented[f"MOMALISA_{name.upper()}"]
        assert description == field.description
        if not field.is_required() and field.default is not None and field.default_factory is None:
            assert default == str(field.default)


def test_every_make_target_that_the_readme_names_is_there():
    """The two commands above all."""
    named = set(re.findall(r"make ([a-z-]+)(?![a-z-]*=)", README))
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    assert {"up", "walk", "check", "test", "bench"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
