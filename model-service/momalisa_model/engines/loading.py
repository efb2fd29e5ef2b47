"""Which module is which engine, and the loading of one. Each module is imported when a model needs it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from momalisa_model.engines.engine import LoadedEngine
from momalisa_model.file_stamps import unchanged
from momalisa_model.hub import Report
from momalisa_model.settings import ModelSource

# The module of the engine NAME has `load_NAME(source, report) -> LoadedEngine`.
ENGINES: Mapping[str, str] = {
    name: f"momalisa_model.engines.{name}" for name in ("diffusion", "parallax", "style", "instances")
}


def load_engine(source: ModelSource, report: Report) -> LoadedEngine:
    """Load the model of a source with its engine; nothing is rendered yet.

    report: gets sentences about the progress of a download. Raises UnsuitableModel if model, card and device do not fit
    each other, DownloadFailed if a further attempt may help, and FilesChanged.
    """
    source.require_fetched()
    module = import_module(ENGINES[source.engine])
    with unchanged(source):
        loaded: LoadedEngine = getattr(module, f"load_{source.engine}")(source, report)
    return loaded
