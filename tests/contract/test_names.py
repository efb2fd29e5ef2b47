"""A public name means one thing within a service: a search for it finds one definition."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
API, MODEL = ROOT / "api-service", ROOT / "model-service"
PACKAGES = [API / "momalisa_api", MODEL / "momalisa_model", MODEL / "atelier"]


def defined_by(statement: ast.stmt) -> Iterator[str]:
    """The classes, functions and constants that a top-level statement defines; names of constants are in capitals."""
    match statement:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield name
        case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar"))):
            pass
        case ast.Assign(targets=targets):
            names = [node for target in targets for node in getattr(target, "elts", [target])]
            yield from (node.id for node in names if isinstance(node, ast.Name) and node.id.isupper())
        case ast.AnnAssign(target=ast.Name(id=name)) if name.isupper():
            yield name


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_public_names_are_defined_once(package: Path):
    """Two classes with one name mislead readers and searches. All migrations define the same functions."""
    modules = defaultdict(set)
    for path in package.rglob("*.py"):
        if "migrations" not in path.parts:
            for statement in ast.parse(path.read_text()).body:
                for name in defined_by(statement):
                    modules[name].add(path.relative_to(package).as_posix())
    twice = {name: sorted(found) for name, found in modules.items() if len(found) > 1 and not name.startswith("_")}
    assert twice == {}
