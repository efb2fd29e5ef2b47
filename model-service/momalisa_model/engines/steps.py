"""The steps of a run: which passes of the network they have, and how much noise there is in each. For every scheduler.

Also a stand-in for a scheduler during one run, which changes or keeps what passes through it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import diffusers
import torch
from torch import Tensor


class SchedulerOfRun:
    """Stands in for a scheduler during one run of a stock pipeline; subclasses replace `_step`."""

    def __init__(self, stock: Any) -> None:
        self._stock = stock
        self.step = instead_of(stock.step, self._step)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stock, name)

    def _step(self, output: Tensor, timestep: Tensor, sample: Tensor, *others: Any, **named: Any) -> Any:
        raise NotImplementedError


class FinishedLatents(SchedulerOfRun):
    """Keeps the latents that a run ends with, before they are decoded: (frames, ...)."""

    def _step(self, *given: Any, **named: Any) -> Any:
        stepped = self._stock.step(*given, **named)
        self._last: Tensor = stepped[0]
        return stepped

    @property
    def latents(self) -> Tensor:
        """After the run."""
        return self._last.float() / unit(self._stock)


def instead_of(stock: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the signature of the stock one, which pipelines read."""
    return functools.update_wrapper(functools.partial(function), stock)


def unit(scheduler: Any) -> float:
    """The size of latents in the samples of a scheduler: SCM's are smaller than its pipeline's."""
    return float(scheduler.config.sigma_data) if isinstance(scheduler, diffusers.SCMScheduler) else 1.0


def begin_with(scheduler: Any, first: int) -> Tensor:
    """Let a scheduler whose timesteps are set begin with this step, counted from 0. Returns those of the run."""
    twice = isinstance(scheduler, diffusers.PNDMScheduler)  # it always makes its first step twice
    left_out = first + 1 if twice and first else first * int(scheduler.order)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(left_out)
    rest: Tensor = scheduler.timesteps[left_out:]
    return torch.cat([rest[:2], rest[1:]]) if twice and first and len(rest) > 1 else rest


def step_of_pass(scheduler: Any, number: int) -> int:
    """The step that a pass belongs to, both counted from the beginning of the run."""
    if isinstance(scheduler, diffusers.PNDMScheduler):
        return max(number - 1, 0)
    return number // int(scheduler.order)


def noise_level(scheduler: Any, timestep: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """How much of the latents and of the noise a sample has in the scheduler's next pass, at this timestep.

    Both are one number in a tensor on the device.
    """
    at = timestep.flatten()[:1].to(device)
    if isinstance(scheduler, diffusers.SCMScheduler):
        return at.cos(), at.sin()
    one, zero = torch.ones(1, device=device), torch.zeros(1, device=device)
    if hasattr(scheduler, "scale_noise"):
        return scheduler.scale_noise(one, at, zero), scheduler.scale_noise(zero, at, one)
    return scheduler.add_noise(one, zero, at), scheduler.add_noise(zero, one, at)


def output_for(scheduler: Any, latents: Tensor, timestep: Tensor, sample: Tensor) -> Tensor:
    """The model output for which the scheduler finds these latents in a sample: all (frames, ...) float32."""
    of_latents, of_noise = noise_level(scheduler, timestep, latents.device)
    noise = (sample - of_latents * latents) / of_noise
    match scheduler.config.get("prediction_type", "flow_prediction"):
        case "epsilon":
            return noise
        case "sample":
            return latents
        case "flow_prediction":
            return noise - latents
    # Velocities and TrigFlow, for which the two are sine and cosine.
    return (of_latents * noise - of_noise * latents) / (of_latents**2 + of_noise**2).sqrt()
