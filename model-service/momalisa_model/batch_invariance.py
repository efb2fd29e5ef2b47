"""Makes a frame's bits independent of its place in the batch on a CPU with several threads. Changes no picture.

The other half is MKL's reproducible mode, which must be set before torch is loaded: see `__init__.py`. Each replica
checks during its warm-up whether the two are enough on its machine.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def make_batch_invariant(*parts: nn.Module) -> None:
    """Give all group norms of these modules channels-first tensors only.

    With channels-last tensors, torch divides the pixels of a batch among its threads and adds up the threads' partial
    sums, so that a frame's mean depends on where one thread's part ends. Attention in a VAE returns channels-last
    tensors.
    """
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.GroupNorm):
                module.register_forward_pre_hook(_channels_first)


def largest_power_of_two(cores: int) -> int:
    """The largest power of two that is at most `cores`: a number of threads that keeps frames batch-invariant.

    Torch divides the numbers of a tensor evenly among its threads, and computes the ones that do not fill a vector
    register with other instructions. With three or five threads, these are in the middle of a frame.
    """
    return 1 << (cores.bit_length() - 1)


def _channels_first(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return (given[0].contiguous(), *given[1:])
