"""The schedulers that a walk may use, and their setup for one run. None of them draws noise."""

from __future__ import annotations

from typing import Any

import diffusers

# A scheduler that draws noise would make a frame depend on more than its recipe.
SCHEDULERS = {
    "DDIM": diffusers.DDIMScheduler,
    "DEIS": diffusers.DEISMultistepScheduler,
    "DPMSolverMultistep": diffusers.DPMSolverMultistepScheduler,
    "Euler": diffusers.EulerDiscreteScheduler,
    "Heun": diffusers.HeunDiscreteScheduler,
    "PNDM": diffusers.PNDMScheduler,
    "UniPC": diffusers.UniPCMultistepScheduler,
}
# A derived card offers these for every model, beside the model's own.
OFFERED = ("DDIM", "DPMSolverMultistep", "UniPC", "Euler", "Heun")


def name_of(scheduler: Any) -> str | None:
    """The key in SCHEDULERS of a diffusers scheduler; None if it is not supported."""
    return next((name for name, kind in SCHEDULERS.items() if kind is type(scheduler)), None)


def for_one_run(name: str, config: dict[str, Any]) -> Any:
    """A new scheduler for one run, because schedulers keep state, with the configuration of the model's own.

    name: a key of SCHEDULERS. Samples are never clipped, whatever the class's default is: latents are not pixels.
    """
    settings = {**config, "clip_sample": False}
    if str(settings.get("algorithm_type")).startswith("sde-"):
        settings["algorithm_type"] = settings["algorithm_type"].removeprefix("sde-")  # these draw noise
    return SCHEDULERS[name].from_config(settings)
