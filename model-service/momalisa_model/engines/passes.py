"""What happens around each pass of a denoiser while the stock pipeline runs: stopping, precision, and blending.

Hooks on the network are the one place that all stock pipelines have; some have no callback.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from momalisa_model.cancellation import Cancelled, ShouldStop
from momalisa_model.schedulers import passes_of


@contextmanager
def stoppable(denoiser: nn.Module, should_stop: ShouldStop) -> Iterator[None]:
    """Raises Cancelled before a pass of the denoiser if should_stop() is true."""

    def check(*_: object) -> None:
        if should_stop():
            raise Cancelled

    handle = denoiser.register_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def float32_outside(denoiser: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Gives the denoiser its own dtype, and the pipeline float32: with some schedules, noise overflows in float16."""

    def inward(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        # The timestep keeps its precision.
        return (_cast(given[0], dtype), *given[1:]), _cast(named, dtype)

    def outward(_: nn.Module, __: object, ___: object, noise: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(one.float() for one in noise)

    with _hooks(denoiser, inward, outward):
        yield


@contextmanager
def _hooks(denoiser: nn.Module, before: Callable[..., Any], after: Callable[..., Any]) -> Iterator[None]:
    handles = (
        denoiser.register_forward_pre_hook(before, with_kwargs=True),
        denoiser.register_forward_hook(after, with_kwargs=True),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Blend:
    """The early blend of the frames of a batch: named arguments of the UNet, (frames, ...) each.

    nearer, farther: those of each frame's nearer and farther prompt. weight: that of the farther one, (frames,).
    """

    nearer: dict[str, Any]
    farther: dict[str, Any]
    weight: Tensor


class GuidancePasses:
    """The passes of a UNet in each step: without guidance outside its interval, and two prompts in the early blend.

    The stock pipeline always passes (negative prompt, prompt) or (prompt), and always gets noise of that many frames.
    Sources: T. Kynkäänniemi et al., Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in
    Diffusion Models, 2024; N. Liu et al., Compositional Visual Generation with Composable Diffusion Models, 2022.
    """

    def __init__(self, run: Any, frames: int, interval: tuple[float, float] | None, blend: Blend | None) -> None:
        """interval: of the steps with guidance, as shares of all; None: all steps. blend: for the first third."""
        self._run, self._frames = run, frames
        self._interval, self._blend = interval or (0.0, 1.0), blend
        self._pass = -1
        self._halved = self._early = False

    @contextmanager
    def around(self, unet: nn.Module) -> Iterator[None]:
        """Hook the UNet for one run of its pipeline."""
        with _hooks(unet, self._before, self._after):
            yield

    def _before(self, _: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        self._pass += 1
        left_out, steps = passes_of(self._run.scheduler)
        step = left_out + self._pass
        sample, *others = given
        first, last = (math.ceil(share * steps) for share in self._interval)
        self._halved = len(sample) > self._frames and not first <= step < last
        self._early = self._blend is not None and step < steps // 3
        if self._halved:
            sample, named = sample[-self._frames :], self._of_frames(named)
        if self._early and self._blend:
            named = _with_last(named, self._blend.nearer)
        return (sample, *others), named

    def _after(
        self, unet: nn.Module, given: tuple[Any, ...], named: dict[str, Any], noise: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        (whole, *_) = noise
        if self._early and self._blend:
            sample, *others = given
            other = _with_last(self._of_frames(named), self._blend.farther)
            farther = unet.forward(sample[-self._frames :], *others, **other)[0].to(whole.dtype)
            weight = self._blend.weight.to(whole)[:, None, None, None]
            mixed = (1 - weight) * whole[-self._frames :] + weight * farther
            whole = torch.cat([whole[: -self._frames], mixed])
        # Guidance between two equal predictions is no guidance.
        return (torch.cat([whole, whole]) if self._halved else whole,)

    def _of_frames(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of the prompts' half of a pass with guidance."""
        return {
            name: self._of_frames(value) if isinstance(value, Mapping) else _last(value, self._frames)
            for name, value in named.items()
        }


def _last(value: Any, frames: int) -> Any:
    return value[-frames:] if isinstance(value, Tensor) and value.ndim else value


def _with_last(named: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Named arguments whose last rows are replaced, those in inner dictionaries too."""
    result = dict(named)
    for name, other in others.items():
        if isinstance(other, Mapping):
            result[name] = _with_last(named[name], other)
        else:
            kept = named[name][: -len(other)]
            result[name] = torch.cat([kept, other.to(kept)])
    return result


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Floating-point tensors in a value or in a dictionary of values to a dtype; everything else as it is."""
    if isinstance(value, Mapping):
        return {name: _cast(inner, dtype) for name, inner in value.items()}
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
