"""Takes the pictures of a micro-batch from the device into memory, while the device continues with the next one."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch
from torch import Tensor


class Transfer:
    """One micro-batch on its way. Create it before rendering, call `start` after, and `result` in any thread.

    On CUDA, nothing here waits for the device but `result`; on other devices, `start` does.
    """

    def __init__(self, device: torch.device) -> None:
        self._began = _Mark(device)

    def start(self, pictures: Tensor, valid: Tensor) -> None:
        """Round and copy. pictures: (frames, height, width, 3) in [0, 1]; valid: a bool. Both on the device."""
        self._valid = _to_memory(valid)
        # The device rounds, because bytes are copied four times as fast as floats.
        self._pictures = _to_memory(rounded(pictures))
        self._ended = _Mark(pictures.device)

    def result(self) -> tuple[Tensor | None, float]:
        """Wait for the pictures: (frames, height, width, 3) uint8 in memory, and the device time in seconds.

        None instead of pictures if they are not valid.
        """
        seconds = self._ended.seconds_since(self._began)
        return (self._pictures if self._valid.item() else None), seconds


def rounded(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] to uint8 in [0, 255]."""
    return (pictures * 255).round().to(torch.uint8)


def _to_memory(tensor: Tensor) -> Tensor:
    """A copy in memory; on CUDA it is complete when the events recorded after it are."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    # The source may be freed before the copy is complete: its memory is used again in the order of the stream.
    return copy.copy_(tensor, non_blocking=True)


class _Mark:
    """A point in time; on CUDA, in the device's stream of work."""

    def __init__(self, device: torch.device) -> None:
        self._at = perf_counter()
        self._event: Any = None
        if device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(device))

    def seconds_since(self, earlier: _Mark) -> float:
        """Wait until the device has reached this mark, and measure the time between the two."""
        if self._event is None:
            return self._at - earlier._at
        self._event.synchronize()
        return float(earlier._event.elapsed_time(self._event)) / 1000
