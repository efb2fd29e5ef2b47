"""The state of one replica: first only the reason why it is not ready, then the loaded and warmed-up model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread

import structlog

from momalisa_model.device_queue import DeviceQueue, free_memory, is_lost, ran_out_of_memory
from momalisa_model.metrics import Metrics
from momalisa_model.model_card import fingerprint, made_of, read_card
from momalisa_model.placement import effective, place
from momalisa_model.problems import NotReady, Problem, UnsuitableModel
from momalisa_model.sampler import Sampler
from momalisa_model.settings import Settings
from momalisa_model.weights import Weights, load
from momalisa_model.wire import ModelAnswer

# How errors of CUDA and of its libraries begin, where torch has no exception type of its own.
CUDA_MESSAGES = ("CUDA error", "cuDNN error")


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
        except Exception as error:
            if is_fault_of_device(error):
                self.queue.give_up(error)
                return
            known = isinstance(error, Problem)
            unknown = "The weights could not be loaded; the replica's log has the details."
            self._reason = str(error) if known else unknown
            log.error("not ready", reason=self._reason, cause=str(error.__cause__ or ""), exc_info=not known)
            error.__traceback__ = None
            free_memory()
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
    weights = _load(settings)
    card = read_card(weights, settings)
    options = effective(card.device, weights.device)
    parts = made_of(weights, card.micro_batch, options)
    sampler = Sampler(weights, card.micro_batch)
    with _explained(weights, "it", "MOMALISA_DTYPE to a half precision, or `device.offload` in the model card"):
        place(weights.pipeline, options, weights.device)
    size = f"{card.micro_batch} pictures of {card.width} x {card.height} pixels"
    smaller = "a smaller micro_batch, width or height, `device.vae_slicing` or `device.offload` in the model card"
    with _explained(weights, size, smaller):
        sampler.warm_up(card, strict=settings.places == "strict" or weights.device.type == "cpu")
    answer = ModelAnswer(
        card=card,
        fingerprint=fingerprint(parts),
        made_of=parts,
        features=sampler.features,
        batch_invariant=sampler.batch_invariant,
    )
    return LoadedModel(sampler, answer)


def _load(settings: Settings) -> Weights:
    try:
        return load(settings)
    except Exception as error:
        if any(ran_out_of_memory(one) for one in _with_causes(error)):
            raise UnsuitableModel(
                "This machine has too little memory to load the weights. Add memory, or set MOMALISA_DTYPE to a half "
                "precision."
            ) from error
        raise


@contextmanager
def _explained(weights: Weights, too_large: str, remedy: str) -> Iterator[None]:
    """Raises UnsuitableModel for an error of the block: a wrong configuration makes the libraries raise any type.

    too_large: what the device has too little memory for, if it has. remedy: what to set then.
    """
    try:
        yield
    except Problem:
        raise
    except Exception as error:
        reason = (
            f"the device has too little memory for {too_large}. Set {remedy}"
            if ran_out_of_memory(error)
            else "its first pictures failed, and the replica's log has the details. A field in the config.json of one "
            "of its parts may be wrong or missing"
        )
        raise UnsuitableModel(f"{weights.model} was loaded, but {reason}.") from error


def is_fault_of_device(error: Exception) -> bool:
    """Whether loading failed because of the device, so that only a new process can succeed.

    A lack of memory does not count: the next process would have no more. While shards are rendered, a self-test decides
    about errors that CUDA's libraries report; here, nothing has worked before.
    """
    return any(
        is_lost(one) or (str(one).startswith(CUDA_MESSAGES) and not ran_out_of_memory(one))
        for one in _with_causes(error)
    )


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__
