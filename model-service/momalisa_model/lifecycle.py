"""What one running model service holds: first nothing but a reason, then weights that are loaded and warm."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Thread

import structlog

from momalisa_model.device_queue import DeviceQueue
from momalisa_model.metrics import Metrics
from momalisa_model.model_card import fingerprint, made_of, read_card
from momalisa_model.problems import NotReady, Problem
from momalisa_model.sampler import Sampler
from momalisa_model.settings import Settings
from momalisa_model.weights import load
from momalisa_model.wire import ModelAnswer


@dataclass(frozen=True)
class LoadedModel:
    """Weights that were loaded and warmed up, and how they present themselves."""

    sampler: Sampler
    answer: ModelAnswer


class Replica:
    """The weights' life in this process, beside the queue and the metrics that are there from the start."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.queue = DeviceQueue(settings.queue_length, self.metrics)
        self._ready: LoadedModel | None = None
        self._reason = "The weights are still being loaded; ask again."

    def start_loading(self) -> None:
        """Load in a thread that ends with the process: a download of minutes must not outlive a Ctrl-C."""
        Thread(target=self._load, name="weights", daemon=True).start()

    def ready(self) -> LoadedModel:
        """What is loaded. Raises NotReady with the reason where nothing is yet, or never will be."""
        if self._ready is None:
            raise NotReady(self._reason)
        return self._ready

    def _load(self) -> None:
        log = structlog.get_logger()
        try:
            self._ready = load_model(self.settings)
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


def load_model(settings: Settings) -> LoadedModel:
    """Load the weights, read the card, warm up. Raises UnsuitableModel, and whatever torch has to say meanwhile."""
    weights = load(settings)
    card = read_card(weights, settings)
    parts = made_of(weights, card.micro_batch)
    sampler = Sampler(weights, card.micro_batch)
    sampler.warm_up(card)
    return LoadedModel(sampler, ModelAnswer(card=card, fingerprint=fingerprint(parts), made_of=parts))
