"""The schedulers that a walk may use, and their setup for one run.

Some draw noise in each step. All frames draw it from equally seeded generators, so that it is the same for every frame.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import structlog
import torch

from momalisa_model.problems import UnsuitableModel

SCHEDULERS = {
    "DDIM": diffusers.DDIMScheduler,
    "DEIS": diffusers.DEISMultistepScheduler,
    "DPMSolverMultistep": diffusers.DPMSolverMultistepScheduler,
    "Euler": diffusers.EulerDiscreteScheduler,
    "EulerAncestral": diffusers.EulerAncestralDiscreteScheduler,
    "EulerTrailing": diffusers.EulerDiscreteScheduler,
    "FlowMatchEuler": diffusers.FlowMatchEulerDiscreteScheduler,
    "Heun": diffusers.HeunDiscreteScheduler,
    "LCM": diffusers.LCMScheduler,
    "PNDM": diffusers.PNDMScheduler,
    "SCM": diffusers.SCMScheduler,
    "TCD": diffusers.TCDScheduler,
    "UniPC": diffusers.UniPCMultistepScheduler,
}
# Models that were distilled for few steps begin at the last timestep, whatever the model was that they were made from.
TRAILING = ("EulerTrailing",)
# What replaces a scheduler that cannot be used: the first that the family allows and that works.
SUBSTITUTES = ("Euler", "DDIM", "DPMSolverMultistep", "UniPC", "Heun", "FlowMatchEuler", "LCM", "SCM")
# The start of a multistep solver is another in each of these numbers of steps.
FEW_STEPS = (1, 2, 3, 4)
LONGEST_REASON = 200


def load_scheduler(folder: Path, kind: object, model: str, allowed: Collection[str]) -> Any:
    """The model's own scheduler, or a substitute with its configuration if this service cannot use it.

    kind: its entry in model_index.json. allowed: the substitutes that work in this family of models. A class that is
    not in SCHEDULERS is not even imported, because it may need packages that are not installed. Raises UnsuitableModel
    if no scheduler works.
    """
    try:
        config = dict(json.loads((folder / "scheduler" / "scheduler_config.json").read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UnsuitableModel(
            f"{model} has no readable scheduler/scheduler_config.json. Complete the model's files."
        ) from error
    log = structlog.get_logger()
    if config.get("use_beta_sigmas"):
        log.warning("the model's own scheduler uses beta sigmas, which need scipy; used without them")
        config["use_beta_sigmas"] = False
    own = kind[1] if isinstance(kind, list) and len(kind) == 2 else kind
    name = next((name for name, known in SCHEDULERS.items() if known.__name__ == own), None)
    reason = failure(name, config) if name else "it is not supported"
    if name and not reason:
        if _draws_noise(config):
            log.warning("the model's own scheduler draws noise; used without noise", scheduler=name)
        return SCHEDULERS[name].from_config(config)
    substitutes = [name for name in SUBSTITUTES if name in allowed]
    instead = next(iter(working(substitutes, config)), None)
    if instead is None:
        reason = failure(substitutes[0], config) if substitutes else f"{own} is not supported"
        raise UnsuitableModel(
            f"No scheduler works with the scheduler_config.json of {model} ({reason}). Correct that file."
        )
    log.warning("the model's own scheduler cannot be used", own=own, reason=reason, instead=instead)
    return SCHEDULERS[instead].from_config(config)


def name_of(scheduler: Any) -> str:
    """The key in SCHEDULERS of a scheduler of load_scheduler; of several, the first."""
    return next(name for name, kind in SCHEDULERS.items() if kind is type(scheduler))


def for_one_run(name: str, config: Mapping[str, Any], steps: int, from_latents: bool = False) -> Any:
    """A new scheduler for one run, because schedulers keep state, with the configuration of the model's own.

    name: a key of SCHEDULERS. from_latents: whether the run does not begin with noise. Samples are never clipped,
    whatever the class's default is: latents are not pixels.
    """
    settings = dict(config)
    # A pipeline's constructor corrects the offset of old models; from_config would take the class's default again.
    unset = [field for field in settings.get("_use_default_values", ()) if field != "steps_offset"]
    settings["_use_default_values"] = unset
    if "clip_sample" in inspect.signature(SCHEDULERS[name]).parameters:
        settings["clip_sample"] = False
    if _draws_noise(settings):
        settings |= {"algorithm_type": str(settings.get("algorithm_type")).removeprefix("sde-")}
        settings |= {"stochastic_sampling": False}
    if name in TRAILING:
        settings["timestep_spacing"] = "trailing"
    if name == "PNDM" and (steps < 4 or from_latents):
        settings["skip_prk_steps"] = True  # its Runge-Kutta start needs four steps, from the first one on
    return SCHEDULERS[name].from_config(settings)


def passes_of(scheduler: Any) -> tuple[int, int]:
    """How many passes the scheduler of a run leaves out at its beginning, and how many there are with these."""
    left_out = int(getattr(scheduler, "left_out", 0))
    return left_out, left_out + len(scheduler.timesteps)


def working(names: Iterable[str], config: Mapping[str, Any], steps: Iterable[int] = ()) -> list[str]:
    """Those of the schedulers that work with a configuration. Logs why the others do not."""
    failures = {name: failure(name, config, steps) for name in dict.fromkeys(names)}
    for name, reason in failures.items():
        if reason:
            structlog.get_logger().warning("scheduler not offered", scheduler=name, reason=reason)
    return [name for name, reason in failures.items() if not reason]


def failure(name: str, config: Mapping[str, Any], steps: Iterable[int] = ()) -> str:
    """Why a scheduler does not work with a configuration; empty if it does. It is run on random numbers.

    steps: numbers of steps to try beside the smallest ones. Takes milliseconds.
    """
    for number in sorted({*FEW_STEPS, *steps}):
        tried = f"with {number} {'step' if number == 1 else 'steps'}"
        try:
            finite = _denoise_noise(for_one_run(name, config, number), number)
        except Exception as error:  # a wrong configuration makes the library raise errors of any type
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            return f"{tried}, {text}"[:LONGEST_REASON]
        if not finite:
            return f"{tried}, its numbers are not finite"
    return ""


def _denoise_noise(scheduler: Any, steps: int) -> bool:
    """Run a scheduler on a tiny latent. Returns whether the result is finite."""
    # Stock pipelines shift the steps by the size of the picture, and have a middle step for two steps only.
    shift = {"mu": 1.0} if scheduler.config.get("use_dynamic_shifting") else {}
    middle = {"intermediate_timesteps": None} if isinstance(scheduler, diffusers.SCMScheduler) and steps != 2 else {}
    scheduler.set_timesteps(steps, **shift, **middle)
    generator = torch.Generator().manual_seed(0)
    noise, latents = torch.randn((2, 1, 1, 2, 2), generator=generator)
    latents = latents * getattr(scheduler, "init_noise_sigma", 1.0)
    drawn = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    # That of SCM ends with a timestep that is no step.
    for t in scheduler.timesteps[:-1] if isinstance(scheduler, diffusers.SCMScheduler) else scheduler.timesteps:
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(latents, t)
        latents = scheduler.step(noise, t, latents, **drawn, return_dict=False)[0]
    return bool(latents.isfinite().all())


def _draws_noise(config: Mapping[str, Any]) -> bool:
    """Whether a configuration makes a scheduler draw noise that otherwise draws none."""
    return str(config.get("algorithm_type")).startswith("sde-") or bool(config.get("stochastic_sampling"))
