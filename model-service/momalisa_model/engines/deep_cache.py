"""Reuses what the deep blocks of a UNet returned, in some steps of a run: they change little from step to step.

Which steps depends on their number alone, never on the frames of a batch.
Source: X. Ma et al., DeepCache: Accelerating Diffusion Models for Free, 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.hooks import HookRegistry, ModelHook
from torch import nn

from momalisa_model.schedulers import passes_of

NAME = "deep_cache"


@contextmanager
def reusing_deep_blocks(run: Any, interval: int) -> Iterator[None]:
    """During one run of a pipeline, its UNet computes its deep blocks in every interval-th step only.

    In the first third of the steps, in which a picture takes shape, it computes them always.
    """
    passed = -1

    def count(*_: object) -> None:
        nonlocal passed
        passed += 1

    def computes() -> bool:
        left_out, steps = passes_of(run.scheduler)
        step, first = left_out + passed, steps // 3
        return step < first or (step - first) % interval == 0

    counting = run.unet.register_forward_pre_hook(count)
    blocks = deep_blocks(run.unet)
    for block in blocks:
        HookRegistry.check_if_exists_or_initialize(block).register_hook(_Reused(computes), NAME)
    try:
        yield
    finally:
        counting.remove()
        for block in blocks:
            HookRegistry.check_if_exists_or_initialize(block).remove_hook(NAME, recurse=False)


def deep_blocks(unet: Any) -> list[nn.Module]:
    """All blocks of a UNet below its first level, which has the resolution of the latents."""
    blocks = [*unet.down_blocks[1:], unet.mid_block, *unet.up_blocks[:-1]]
    return [block for block in blocks if block is not None]


class _Reused(ModelHook):  # type: ignore[misc]  # diffusers has no types
    def __init__(self, computes: Callable[[], bool]) -> None:
        super().__init__()
        self._computes = computes
        self._frames, self._output = 0, None

    def new_forward(self, _: nn.Module, *given: Any, **named: Any) -> Any:
        """What the block returns, or has returned."""
        frames = len(given[0] if given else named["hidden_states"])
        # With and without guidance, a pass has two numbers of frames.
        if self._computes() or frames != self._frames:
            self._frames, self._output = frames, self.fn_ref.original_forward(*given, **named)
        return self._output
