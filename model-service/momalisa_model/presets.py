"""The styles that cards of diffusion models have by default: read from presets.yml. Renders nothing."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from momalisa_model.wire import Style


@lru_cache(1)
def preset_styles() -> tuple[Style, ...]:
    """All of them, in the order in which people see them."""
    found: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "presets.yml").read_bytes())
    return tuple(map(Style.model_validate, found))
