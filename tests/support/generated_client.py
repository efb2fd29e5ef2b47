"""Clients generated from an OpenAPI document by openapi-python-client, as a user would have them."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openapi_python_client import generate
from openapi_python_client.config import Config, ConfigFile, MetaType

# The generator knows no pictures, films, archives and JSON lines, and would skip them.
BINARY = ("image/gif", "image/png", "image/webp", "image/jpeg", "video/mp4", "application/zip", "application/jsonl")


@contextmanager
def generated_client(document: dict[str, Any], folder: Path, package: str) -> Iterator[Callable[[str], Any]]:
    """A function that imports a module of the package that is generated. Fails if the generator skips anything.

    package: its name, which no other module may have.
    """
    source = folder / f"{package}.json"
    source.write_text(json.dumps(document))
    options = ConfigFile(post_hooks=[], content_type_overrides=dict.fromkeys(BINARY, "application/octet-stream"))
    problems = generate(config=Config.from_sources(options, MetaType.NONE, source, "utf-8", True, folder / package))
    assert [(problem.header, problem.detail) for problem in problems] == []
    sys.path.insert(0, str(folder))
    try:
        yield lambda module: importlib.import_module(f"{package}.{module}")
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]
