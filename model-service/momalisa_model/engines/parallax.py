"""Moves a camera in a picture."""

from __future__ import annotations

from momalisa_model.engines.engine import LoadedEngine
from momalisa_model.hub import Report
from momalisa_model.problems import UnsuitableModel
from momalisa_model.settings import ModelSource


def load_parallax(source: ModelSource, _: Report) -> LoadedEngine:
    """Raises UnsuitableModel: this engine does not exist yet."""
    raise UnsuitableModel(f"The engine {source.engine} does not exist yet. Use a model of another engine.")
