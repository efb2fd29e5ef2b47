"""Puts a loaded pipeline on its device, and prepares it there, as the card's `device` options say."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.hooks import CpuOffload, add_hook_to_module
from torch import nn

from momalisa_model.problems import UnsuitableModel
from momalisa_model.spread import room_of, spread
from momalisa_model.wire import DeviceOptions

# Beside the repeated blocks that diffusers names: the others that UNets and VAEs consist of.
CONVOLUTIONS = ("ResnetBlock2D",)


def effective(options: DeviceOptions, device: torch.device) -> DeviceOptions:
    """The options that a device uses: CPUs are neither compiled for nor given channels-last tensors.

    Both would change bits there, and channels-last tensors those of a frame by its place: see `batch_invariance`.
    """
    if device.type == "cuda":
        return options
    return options.model_copy(update={"compile": False, "channels_last": False})


def place(pipeline: Any, options: DeviceOptions, device: torch.device, backend: str = "inductor") -> None:
    """Apply the options to a pipeline in memory. backend: that of torch.compile.

    Raises UnsuitableModel for an option that its parts do not have.
    """
    if options.deep_cache > 1 and not hasattr(pipeline, "unet"):
        raise UnsuitableModel("The model card has a deep_cache, which only models with a UNet can use. Leave it out.")
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    _prepare_vae(pipeline.vae, options)
    if options.channels_last:
        for network in networks.values():
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _offload(pipeline, networks, options.offload, device)
    if options.compile:
        for network in _without_encoders(networks):
            compile_blocks(network, backend)


def compile_blocks(network: nn.Module, backend: str) -> None:
    """Compile the blocks of a network, each kind once: faster to start than the whole, and as fast to run.

    Hooks on the network itself, which stop a run, stay outside.
    """
    repeated = getattr(network, "_repeated_blocks", None) or getattr(network, "_no_split_modules", None) or ()
    kinds = {*repeated, *CONVOLUTIONS}
    for module in network.modules():
        if type(module).__name__ in kinds:
            module.compile(backend=backend)


def _prepare_vae(vae: Any, options: DeviceOptions) -> None:
    for wanted, name in ((options.vae_slicing, "enable_slicing"), (options.vae_tiling, "enable_tiling")):
        if not wanted:
            continue
        try:
            getattr(vae, name)()
        except (AttributeError, NotImplementedError) as error:
            option = name.replace("enable", "vae")
            raise UnsuitableModel(f"This model's VAE has no {option}. Leave it out of the model card.") from error


def _offload(pipeline: Any, networks: dict[str, nn.Module], policy: str, device: torch.device) -> None:
    if policy == "model":
        pipeline.enable_model_cpu_offload(device=device)
        return
    if policy == "spread":
        spread(pipeline, networks, room_of(device))
        return
    for name, network in networks.items():
        if policy == "text_encoder" and name.startswith("text_encoder"):
            add_hook_to_module(network, _LeavesAfterwards(device))
        else:
            network.to(device)


class _LeavesAfterwards(CpuOffload):  # type: ignore[misc]  # accelerate has no types
    """Brings a network to the device for each run, and back into memory after it."""

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        module.to("cpu")
        return output


def _without_encoders(networks: dict[str, nn.Module]) -> list[nn.Module]:
    return [network for name, network in networks.items() if not name.startswith("text_encoder")]
