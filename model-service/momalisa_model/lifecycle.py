"""Loads one model of a replica and warms it up, and says what is wrong if that fails. Serves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from momalisa_model.device_queue import is_lost, ran_out_of_memory
from momalisa_model.hub import Report
from momalisa_model.model_card import fingerprint, made_of, read_card
from momalisa_model.placement import effective, place
from momalisa_model.problems import Problem, UnsuitableModel
from momalisa_model.sampler import Sampler
from momalisa_model.settings import ModelSource
from momalisa_model.weights import Weights, load
from momalisa_model.wire import ModelAnswer, ModelCard

# How errors of CUDA and of its libraries begin, where torch has no exception type of its own.
CUDA_MESSAGES = ("CUDA error", "cuDNN error")


@dataclass(frozen=True)
class LoadedModel:
    """A model that is loaded and warmed up, and the response of GET /v1/model about it."""

    sampler: Sampler
    answer: ModelAnswer

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self.answer.card

    def self_test(self) -> None:
        """Render a little with the card's defaults. Raises what rendering raises."""
        self.sampler.render_defaults(self.card)


def load_model(source: ModelSource, report: Report = lambda _: None) -> LoadedModel:
    """Load the weights, read the card, and warm up.

    report: gets sentences about the progress of a download. Raises UnsuitableModel if weights, card and device do not
    fit each other, and DownloadFailed if a further attempt may help.
    """
    weights = _load(source, report)
    card = read_card(weights, source)
    options = effective(card.device, weights.device)
    parts = made_of(weights, card.micro_batch, options, card.prompt_chunks)
    sampler = Sampler(weights, card.micro_batch, options.deep_cache, card.prompt_chunks)
    with _explained(weights, "it", "MOMALISA_DTYPE to a half precision, or `device.offload` in the model card"):
        place(weights.pipeline, options, weights.device)
    size = f"{card.micro_batch} pictures of {card.width} x {card.height} pixels"
    smaller = "a smaller micro_batch, width or height, `device.vae_slicing` or `device.offload` in the model card"
    with _explained(weights, size, smaller):
        sampler.warm_up(card, strict=source.places == "strict" or weights.device.type == "cpu")
    answer = ModelAnswer(
        card=card,
        fingerprint=fingerprint(parts),
        made_of=parts,
        features=sampler.features,
        batch_invariant=sampler.batch_invariant,
    )
    return LoadedModel(sampler, answer)


def _load(source: ModelSource, report: Report) -> Weights:
    try:
        return load(source, report)
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
