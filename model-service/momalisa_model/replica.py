"""What one running model service holds: first nothing but a reason, then weights that are loaded and warm."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Thread

import structlog

from momalisa_model.card import fingerprint, made_of, read_card
from momalisa_model.lane import Lane
from momalisa_model.metrics import Metrics
from momalisa_model.problems import NotReady, Problem
from momalisa_model.sampler import Sampler
from momalisa_model.settings import Settings
from momalisa_model.weights import load
from momalisa_model.wire import ModelAnswer


@dataclass(frozen=True)
class Ready:
    """Weights that were loaded and warmed up, and how they present themselves."""

    sampler: Sampler
    answer: ModelAnswer


class Replica:
    """The weights' life in this process, beside the lane and the metrics that are there from the start."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.lane = Lane(settings.lane_length, self.metrics)
        self._ready: Ready | None = None
        self._reason = "The weights are still being loaded; ask again."

    def start_loading(self) -> None:
        """Load in a thread that ends with the process: a download of minutes must not outlive a Ctrl-C."""
        Thread(target=self._load, name="weights", daemon=True).start()

    def ready(self) -> Ready:
        """What is loaded. Raises NotReady with the reason where nothing is yet, or never will be."""
        if self._ready is None:
            raise NotReady(self._reason)
        return self._ready

    def _load(self) -> None:
        log = structlog.get_logger()
        try:
            self._ready = get_ready(self.settings)
        except Problem as problem:
            self._reason = str(problem)
            log.error("not ready", reason=self._reason, cause=str(problem.__cause__ or ""))
        except Exception:
            self._reason = "The weights could not be loaded; the replica's log says why."
            log.exception("not ready")
        else:
            self.metrics.ready.set(1)
            card = self._ready.answer.card
            log.info("ready", model=card.model, revision=card.revision[:12], **self._ready.answer.made_of)


def get_ready(settings: Settings) -> Ready:
    """Load the weights, read the card, warm up. Raises UnsuitableModel, and whatever torch has to say meanwhile."""
    weights = load(settings)
    card = read_card(weights, settings)
    parts = made_of(weights, card.micro_batch)
    sampler = Sampler(weights, card.micro_batch)
    sampler.warm_up(card)
    return Ready(sampler, ModelAnswer(card=card, fingerprint=fingerprint(parts), made_of=parts))
