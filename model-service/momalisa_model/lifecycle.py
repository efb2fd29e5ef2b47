"""Loads one model of a replica and warms it up, and says what is wrong if that fails. Serves nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from momalisa_model.device_errors import explained
from momalisa_model.engines.engine import Engine
from momalisa_model.engines.loading import load_engine
from momalisa_model.fingerprints import fingerprint
from momalisa_model.hub import Report
from momalisa_model.settings import ModelSource
from momalisa_model.wire import ModelAnswer, ModelCard


@dataclass(frozen=True)
class LoadedModel:
    """A model that is loaded and warmed up, and the response of GET /v1/model about it."""

    engine: Engine[Any]
    answer: ModelAnswer

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self.answer.card

    def self_test(self) -> None:
        """Render a little with the card's defaults. Raises what rendering raises."""
        self.engine.self_test(self.card)


def load_model(source: ModelSource, report: Report = lambda _: None) -> LoadedModel:
    """Load a model with its engine, and warm it up.

    report: gets sentences about the progress of a download. Raises UnsuitableModel if weights, card and device do not
    fit each other, and DownloadFailed if a further attempt may help.
    """
    loaded = load_engine(source, report)
    engine, card = loaded.engine, loaded.card
    size = f"{card.micro_batch} pictures of {card.width} x {card.height} pixels"
    smaller = "a smaller micro_batch, width or height, `device.vae_slicing` or `device.offload` in the model card"
    with explained(card.model, size, smaller):
        engine.warm_up(card, strict=source.places == "strict" or loaded.made_of["device"] == "cpu")
    answer = ModelAnswer(
        card=card,
        fingerprint=fingerprint(loaded.made_of),
        made_of=loaded.made_of,
        features=engine.features,
        batch_invariant=engine.batch_invariant,
    )
    return LoadedModel(engine, answer)
