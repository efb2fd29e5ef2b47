"""`momalisa-model tune`: measures micro-batches on this device, and prints a card with the best. Serves nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import psutil
import torch

from momalisa_model.device_errors import free_memory, ran_out_of_memory
from momalisa_model.engines.sampler import Sampler
from momalisa_model.model_card import read_card
from momalisa_model.model_recipe import only_source
from momalisa_model.placement import effective, place
from momalisa_model.problems import UnsuitableModel
from momalisa_model.settings import Settings
from momalisa_model.weights import Weights, load
from momalisa_model.wire import ModelCard

SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64)
# A larger micro-batch must bring this much: it delays the first frame, and fewer walks divide well by it.
GAIN = 1.03
# So many sizes in a row without a gain end the search.
PATIENCE = 2


@dataclass(frozen=True)
class Measured:
    """One micro-batch on this device: its throughput, the time to the first frame, and the memory left, in bytes."""

    micro_batch: int
    frames_per_s: float
    first_frame_s: float
    memory_left: int


def tune(settings: Settings, memory: float) -> None:
    """Print the card of the loaded model with the best micro-batch to standard output; progress goes to standard error.

    memory: the largest share of the device's memory that may be used. Raises UnsuitableModel if not even one frame
    fits, or if weights and card do not fit each other.
    """
    source = only_source(settings)
    if source.engine != "diffusion":
        raise UnsuitableModel(
            f"{source.name} has the engine {source.engine}, and only micro-batches of diffusion models are measured."
        )
    weights = load(source)
    card = read_card(weights, source)
    place(weights.pipeline, effective(card.device, weights.device), weights.device)
    _tell(f"{card.model}, {card.width} x {card.height} pixels, {card.num_inference_steps} steps, {weights.device}")
    _tell("micro-batch   frames/s   first frame, s   memory left, GiB")
    measured = list(measure_sizes(weights, card, memory))
    chosen = best(measured)
    _tell(f"best: {chosen.micro_batch}. Give this card to the API and to all replicas.")
    print(card.model_copy(update={"micro_batch": chosen.micro_batch}).model_dump_json(indent=2))


def measure_sizes(weights: Weights, card: ModelCard, memory: float) -> Iterator[Measured]:
    """Each size that fits, smallest first, until larger ones bring nothing. Raises what the first size raises."""
    best_rate, without_gain = 0.0, 0
    for size in SIZES:
        try:
            one = _measure(weights, card, size)
        except Exception as error:
            if size == SIZES[0] or not ran_out_of_memory(error):
                raise
            error.__traceback__ = None
            free_memory()
            _tell(f"{size:11}   does not fit into the memory")
            return
        within = size == SIZES[0] or one.memory_left >= (1 - memory) * _total_memory(weights.device)
        note = "" if within else "   too little memory left"
        _tell(
            f"{size:11}   {one.frames_per_s:8.2f}   {one.first_frame_s:14.2f}   {one.memory_left / 2**30:16.1f}{note}"
        )
        if not within:
            return
        yield one
        without_gain = 0 if one.frames_per_s > GAIN * best_rate else without_gain + 1
        best_rate = max(best_rate, one.frames_per_s)
        if without_gain == PATIENCE:
            return


def best(measured: Sequence[Measured]) -> Measured:
    """The smallest micro-batch that no larger one exceeds by GAIN in throughput."""
    fastest = max(one.frames_per_s for one in measured)
    return next(one for one in measured if one.frames_per_s * GAIN >= fastest)


def _measure(weights: Weights, card: ModelCard, size: int) -> Measured:
    sampler = Sampler(weights, size, card.device.deep_cache)
    sampler.render_defaults(card)  # plans kernels
    free_memory()
    if weights.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(weights.device)
    began = perf_counter()
    sampler.render_defaults(card, num_inference_steps=card.num_inference_steps)
    seconds = perf_counter() - began
    return Measured(size, size / seconds, seconds, _memory_left(weights.device))


def _memory_left(device: torch.device) -> int:
    """Bytes that were left on the device at the peak; of a computer's own memory, those that are left now."""
    if device.type != "cuda":
        # Not what is free: the files that the system keeps in memory are given up when it is needed.
        return int(psutil.virtual_memory().available)
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.max_memory_allocated(device)


def _total_memory(device: torch.device) -> int:
    if device.type != "cuda":
        return int(psutil.virtual_memory().total)
    return torch.cuda.mem_get_info(device)[1]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
