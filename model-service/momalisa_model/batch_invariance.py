"""What keeps a frame's bits independent of its place in the batch on a CPU with several threads. Changes no picture.

The other half is MKL's reproducible mode, which must be set before torch is loaded: `__init__.py`. Whether the two are
enough on a machine, each replica tries when it warms up.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def make_batch_invariant(*parts: nn.Module) -> None:
    """Let group norms see channels-first tensors only.

    With channels last, torch deals a batch's pixels over the threads and sums up what each has found, so that a
    frame's mean depends on where the threads' parts meet. Attention in a VAE leaves its tensors channels-last.
    """
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.GroupNorm):
                module.register_forward_pre_hook(_channels_first)


def largest_power_of_two(cores: int) -> int:
    """The largest power of two that so many cores allow.

    Torch deals the numbers of a tensor evenly over its threads, and computes what is left over of a vector register
    by other means: with three or five threads that is in the midst of a frame.
    """
    return 1 << (cores.bit_length() - 1)


def _channels_first(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return (given[0].contiguous(), *given[1:])
