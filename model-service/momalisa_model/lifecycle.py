"""The state of one replica: first only the reason why it is not ready, then the loaded and warmed-up model."""

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
    """A model that is loaded and warmed up, and the response of GET /v1/model about it."""

    sampler: Sampler
    answer: ModelAnswer


class Replica:
    """The device queue and the metrics of this process from the start, and its model once it is loaded."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.queue = DeviceQueue(settings.queue_length, self.metrics)
        self._model: LoadedModel | None = None
        self._reason = "The weights are still being loaded. Retry in a few seconds."

    def start_loading(self) -> None:
        """Load the model in a daemon thread, so that Ctrl-C does not wait for a download of minutes."""
        Thread(target=self._load, name="weights", daemon=True).start()

    def ready(self) -> LoadedModel:
        """The loaded model. Raises NotReady with the reason if loading has not finished, or has failed."""
        if self._model is None:
            raise NotReady(self._reason)
        return self._model

    def _load(self) -> None:
        log = structlog.get_logger()
        try:
            self._model = load_model(self.settings)
        except Problem as problem:
            self._reason = str(problem)
            log.error("not ready", reason=self._reason, cause=str(problem.__cause__ or ""))
        except Exception:
            self._reason = "The weights could not be loaded; the replica's log has the details."
            log.exception("not ready")
        else:
            self.metrics.ready.set(1)
            card = self._model.answer.card
            log.info("ready", model=card.model, revision=card.revision[:12], **self._model.answer.made_of)


def load_model(settings: Settings) -> LoadedModel:
    """Load the weights, read the card, and warm up.

    Raises UnsuitableModel if they do not fit each other or this service, and what torch raises while rendering.
    """
    weights = load(settings)
    card = read_card(weights, settings)
    parts = made_of(weights, card.micro_batch)
    sampler = Sampler(weights, card.micro_batch)
    sampler.warm_up(card)
    return LoadedModel(sampler, ModelAnswer(card=card, fingerprint=fingerprint(parts), made_of=parts))
