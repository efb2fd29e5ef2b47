"""The dip: frames between two latents, each noised and denoised again, the more the farther it is from both ends.

A frame at fraction t begins as the mixture z of both latents, with the noise of the walk at the level
S * sqrt(sin(pi * t)) of the schedule, and is denoised from there. At both ends this level is 0: the frame is z itself.

All frames of a batch run through the same steps. In those before its own level, a frame gets the model output with
which a step leads from z with noise to z with less noise, so that whatever a scheduler remembers is consistent. In the
step in which its level is, it gets a mixture of this output and of the network's. So frames change continuously with
their level, and neither the other frames of a batch nor the kind of scheduler matters.

Frames of a restyled picture and of a clip begin the same way, each with its own latents and level: see courses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from momalisa_model.engines.steps import (
    SchedulerOfRun,
    begin_with,
    instead_of,
    noise_level,
    output_for,
    step_of_pass,
    unit,
)


@dataclass(frozen=True)
class Begin:
    """Where the frames of one run begin.

    latents: (frames, ...) float32. levels: for each frame the share of the steps that draws it again, (frames,)
    float64; 0: the frame is its latents themselves. strongest: the largest level of all frames of the recipe, 0 to 1.
    """

    latents: Tensor
    levels: Tensor
    strongest: float


@dataclass(frozen=True)
class Ends:
    """The latents of both ends of a leg, in the pipeline's own shape without a batch dimension, and S, 0.1 to 1."""

    start: Tensor
    end: Tensor
    strength: float

    def begin(self, fractions: Sequence[float]) -> Begin:
        """Where the frames at these fractions begin: at an end exactly with its latents."""
        along = torch.tensor(fractions, dtype=torch.float64)
        levels = self.strength * (math.pi * along).sin().clamp(min=0).sqrt()
        levels = torch.where((along == 0) | (along == 1), 0.0, levels)
        return Begin(self._mixed(along), levels, self.strength)

    def _mixed(self, along: Tensor) -> Tensor:
        along = along.float().to(self.start.device).reshape(-1, *[1] * self.start.ndim)
        start, end = self.start.float(), self.end.float()
        return torch.where(along == 0, start, torch.where(along == 1, end, torch.lerp(start, end, along)))


def dip(run: Any, begin: Begin, steps: int) -> None:
    """Let a pipeline with a scheduler of its own, both for one run, render the frames that begin there."""
    run.scheduler = _DippedScheduler(run.scheduler, begin, steps)
    run.prepare_latents = run.scheduler.keeping_latents_of(run.prepare_latents)


class _DippedScheduler(SchedulerOfRun):
    """Leads each frame from its latents with noise to the step in which it begins.

    init_noise_sigma: the pipeline's latents are the noise alone, until `_put_in` changes them.
    """

    init_noise_sigma = 1.0

    def __init__(self, stock: Any, begin: Begin, steps: int) -> None:
        super().__init__(stock)
        self._z, self._steps = begin.latents, steps
        # For each frame the number of the step, not rounded, in which it begins: all steps if it is its latents.
        begins = (steps * (1 - begin.levels)).to(self._z.device, torch.float32)
        self._begins = begins.reshape(-1, *[1] * (self._z.ndim - 1))
        self._first = min(int(steps * (1 - begin.strongest) + 1e-9), steps - 1)
        self._passes = 0
        self._sample: Tensor | None = None
        self._timesteps: Tensor | None = None
        self.set_timesteps = instead_of(stock.set_timesteps, self._set_timesteps)

    @property
    def timesteps(self) -> Tensor:
        """Those of the run, which begins with the first step that a frame of this strength can begin in."""
        assert self._timesteps is not None
        return self._timesteps

    @property
    def left_out(self) -> int:
        """The number of passes before the first one."""
        return len(self._stock.timesteps) - len(self.timesteps)

    def set_begin_index(self, _: int = 0) -> None:
        """Stock pipelines begin with the first timestep, whichever it is."""

    def keeping_latents_of(self, prepare_latents: Any) -> Any:
        """The pipeline's function, whose latents this begins with."""

        def prepare(*given: Any, **named: Any) -> Any:
            prepared = prepare_latents(*given, **named)
            self._sample = prepared[0] if isinstance(prepared, tuple) else prepared
            self._put_in()
            return prepared

        return prepare

    def _set_timesteps(self, *given: Any, **named: Any) -> None:
        self._stock.set_timesteps(*given, **named)
        self._timesteps = begin_with(self._stock, self._first)
        self._put_in()

    def _put_in(self) -> None:
        """Once both are known, replace the pipeline's noise by latents with noise: in place, as it has it already."""
        if self._sample is None or self._timesteps is None:
            return
        of_latents, of_noise = noise_level(self._stock, self._timesteps[0], self._z.device)
        self._sample.copy_(of_latents * self._z + of_noise * self._sample.float())

    def _step(self, output: Tensor, timestep: Tensor, sample: Tensor, *others: Any, **named: Any) -> Any:
        z = self._z * unit(self._stock)
        number = self._first + step_of_pass(self._stock, self._passes)
        ran = (number + 1 - self._begins).clamp(0, 1)
        leading = output_for(self._stock, z, timestep, sample.float())
        led = torch.where(ran == 1, output.float(), torch.lerp(leading, output.float(), ran)).to(output.dtype)
        stepped = self._stock.step(led, timestep, sample, *others, **named)
        self._passes += 1
        if self._first + step_of_pass(self._stock, self._passes) < self._steps and self._passes < len(self.timesteps):
            return stepped
        # Some schedules end with a little noise, which the ends do not have.
        return tuple(torch.where(ran == 1, one, torch.lerp(z, one.float(), ran).to(one.dtype)) for one in stepped)
