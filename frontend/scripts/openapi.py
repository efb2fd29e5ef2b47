"""Prints the API's OpenAPI document; `npm run types` generates src/api/schema.d.ts from it."""

import json
from pathlib import Path

from momalisa_api.app import create_app
from momalisa_api.settings import Settings

CARD = Path(__file__).parents[2] / "model-service" / "atelier" / "weights" / "card.json"

print(json.dumps(create_app(Settings(model_card=CARD)).openapi()))
