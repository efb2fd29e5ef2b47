"""Which schedulers a walk may use, and how one is set up for a run. Only such as draw no noise of their own."""

from __future__ import annotations

from typing import Any

import diffusers

# With any other, a frame would not be a function of its recipe.
SCHEDULERS = {
    "DDIM": diffusers.DDIMScheduler,
    "DEIS": diffusers.DEISMultistepScheduler,
    "DPMSolverMultistep": diffusers.DPMSolverMultistepScheduler,
    "Euler": diffusers.EulerDiscreteScheduler,
    "Heun": diffusers.HeunDiscreteScheduler,
    "PNDM": diffusers.PNDMScheduler,
    "UniPC": diffusers.UniPCMultistepScheduler,
}
# What every model is walked with if asked to, beside its own.
OFFERED = ("DDIM", "DPMSolverMultistep", "UniPC", "Euler", "Heun")


def name_of(scheduler: Any) -> str | None:
    """The name here of the scheduler a model came with; None where it is none of SCHEDULERS."""
    return next((name for name, kind in SCHEDULERS.items() if kind is type(scheduler)), None)


def for_one_run(name: str, config: dict[str, Any]) -> Any:
    """A scheduler of its own for each run (they keep state), set up as the model's own is.

    Samples are not clipped, whatever a class has as its default: latents are no pixels.
    """
    settings = {**config, "clip_sample": False}
    if str(settings.get("algorithm_type")).startswith("sde-"):
        settings["algorithm_type"] = settings["algorithm_type"].removeprefix("sde-")  # those draw noise
    return SCHEDULERS[name].from_config(settings)
