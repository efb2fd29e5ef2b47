"""The state of one replica: first only the reason why it is not ready, then the loaded and warmed-up model."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Thread

import structlog

from momalisa_model.device_queue import DeviceQueue, ran_out_of_memory
from momalisa_model.metrics import Metrics
from momalisa_model.model_card import fingerprint, made_of, read_card
from momalisa_model.placement import effective, place
from momalisa_model.problems import NotReady, Problem, UnsuitableModel
from momalisa_model.sampler import Sampler
from momalisa_model.settings import Settings
from momalisa_model.weights import load
from momalisa_model.wire import ModelAnswer


@dataclass(frozen=True)
class LoadedModel:
    """A model that is loaded and warmed up, and the response of GET /v1/model about it."""

    sampler: Sampler
    answer: ModelAnswer

    def self_test(self) -> None:
        """Render a little with the card's defaults. Raises what rendering raises."""
        self.sampler.render_defaults(self.answer.card)


class Replica:
    """The device queue and the metrics of this process from the start, and its model once it is loaded."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.queue = DeviceQueue(settings.queue_length, self.metrics, lambda: self.ready().self_test())
        self._model: LoadedModel | None = None
        self._reason = "The weights are still being loaded. Retry in a few seconds."

    def start_loading(self) -> None:
        """Load the model in a daemon thread, so that Ctrl-C does not wait for a download of minutes."""
        Thread(target=self._load, name="weights", daemon=True).start()

    def ready(self) -> LoadedModel:
        """The loaded model. Raises NotReady with the reason if there is none, or if the device has failed."""
        if self.queue.failed:
            raise NotReady("The device of this replica has failed, and its process ends. Use another replica.")
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
            answer = self._model.answer
            self.metrics.batch_invariant.set(answer.batch_invariant)
            self.metrics.ready.set(1)
            if not answer.batch_invariant:
                log.warning("a frame's last bits depend on its place in the batch here; MOMALISA_PLACES tells more")
            card = answer.card
            log.info("ready", model=card.model, revision=card.revision[:12], **answer.made_of)


def load_model(settings: Settings) -> LoadedModel:
    """Load the weights, read the card, and warm up.

    Raises UnsuitableModel if weights, card and device do not fit each other.
    """
    weights = load(settings)
    card = read_card(weights, settings)
    options = effective(card.device, weights.device)
    parts = made_of(weights, card.micro_batch, options)
    sampler = Sampler(weights, card.micro_batch)
    try:
        place(weights.pipeline, options, weights.device)
        sampler.warm_up(card, strict=settings.places == "strict" or weights.device.type == "cpu")
    except Problem:
        raise
    except Exception as error:  # a wrong configuration makes the libraries raise errors of any type
        size = f"{card.micro_batch} pictures of {card.width} x {card.height} pixels"
        reason = (
            f"the device has too little memory for {size}. Set a smaller micro_batch, width or height in the model card"
            if ran_out_of_memory(error)
            else "its first pictures failed, and the replica's log has the details. A field in the config.json of one "
            "of its parts may be wrong or missing"
        )
        raise UnsuitableModel(f"{weights.model} was loaded, but {reason}.") from error
    answer = ModelAnswer(
        card=card,
        fingerprint=fingerprint(parts),
        made_of=parts,
        features=sampler.features,
        batch_invariant=sampler.batch_invariant,
    )
    return LoadedModel(sampler, answer)
