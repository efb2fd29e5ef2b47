"""Writes the OpenAPI documents of both services to docs/openapi: `make openapi`. No model is loaded for that."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from momalisa_api.app import create_app as create_api
from momalisa_api.settings import Settings as ApiSettings
from momalisa_model.app import create_app as create_model
from momalisa_model.settings import Settings as ModelSettings

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "openapi"
CARD = ROOT / "model-service" / "atelier" / "weights" / "card.json"


def api_document() -> dict[str, Any]:
    return create_api(ApiSettings()).openapi()


def model_document() -> dict[str, Any]:
    return create_model(ModelSettings(model_id=str(CARD.parent))).openapi()


DOCUMENTS: dict[str, Callable[[], dict[str, Any]]] = {"api.json": api_document, "model.json": model_document}


def text_of(document: dict[str, Any]) -> str:
    """A document as its file has it."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    # The documents describe a deployment with default settings.
    for name in [name for name in os.environ if name.startswith("MOMALISA_")]:
        del os.environ[name]
    FOLDER.mkdir(exist_ok=True)
    for name, document in DOCUMENTS.items():
        (FOLDER / name).write_text(text_of(document()))


if __name__ == "__main__":
    main()
