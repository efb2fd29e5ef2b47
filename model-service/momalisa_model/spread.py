"""Distributes the networks of a pipeline over several devices of one kind, if one device has too little memory.

Only weights are elsewhere: all that a network or block returns comes back to the main device, where the pipeline works.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from accelerate.utils import send_to_device
from torch import nn

from momalisa_model.families import denoiser_of
from momalisa_model.problems import UnsuitableModel

# The share of a device's free memory for weights. The rest is for pictures.
SHARE = 0.75


def room_of(main: torch.device) -> dict[torch.device, int]:
    """Bytes for weights on the main device, which is the first, and on all others of its kind."""
    if main.type != "cuda":
        return {main: torch.iinfo(torch.int64).max}
    others = (torch.device("cuda", index) for index in range(torch.cuda.device_count()))
    devices = [main, *(other for other in others if other.index != (main.index or 0))]
    return {device: int(SHARE * torch.cuda.mem_get_info(device)[0]) for device in devices}


def spread(pipeline: Any, networks: Mapping[str, nn.Module], room: Mapping[torch.device, int]) -> None:
    """Put each block of the denoiser, then each text encoder, on the first device with room; all else on the first.

    networks: those of the pipeline, by name. room: bytes for weights on each device. Raises UnsuitableModel if there is
    too little.
    """
    main, *_ = room
    movable = [*blocks_of(denoiser_of(pipeline)), *(networks[name] for name in networks if "text_encoder" in name)]
    fixed = sum(size_of(network) for network in networks.values()) - sum(size_of(module) for module in movable)
    left = {**room, main: room[main] - fixed}
    for module in movable:
        device = next((device for device, free in left.items() if free >= size_of(module)), None)
        if device is None or left[main] < 0:
            raise UnsuitableModel(
                f"The {len(room)} devices of this replica have too little memory for the model. Set MOMALISA_DTYPE to "
                "a half precision, or `device.offload` in the model card to `model`."
            )
        left[device] -= size_of(module)
        module.to(device)
        add_hook_to_module(module, _Works(device, main))
    for network in networks.values():
        _move_rest(network, main)
        if network not in movable:
            add_hook_to_module(network, _Works(main, main))


class _Works(ModelHook):  # type: ignore[misc]  # accelerate has no types
    """Brings what a module is called with to its device, and what it returns to the main one.

    execution_device: where the pipeline works, which it reads from the hook of its first network.
    """

    def __init__(self, device: torch.device, main: torch.device) -> None:
        self._device, self.execution_device = device, main

    def pre_forward(self, _: nn.Module, *given: Any, **named: Any) -> tuple[Any, Any]:
        return send_to_device(given, self._device), send_to_device(named, self._device)

    def post_forward(self, _: nn.Module, output: Any) -> Any:
        return send_to_device(output, self.execution_device)


def blocks_of(denoiser: nn.Module) -> Iterator[nn.Module]:
    """The blocks that a denoiser calls one after another."""
    for child in denoiser.children():
        if isinstance(child, nn.ModuleList):
            yield from child


def _move_rest(module: nn.Module, device: torch.device) -> None:
    """Move a network without its modules that are elsewhere."""
    if hasattr(module, "_hf_hook"):
        return
    for child in module.children():
        _move_rest(child, device)
    module._apply(lambda tensor: tensor.to(device), recurse=False)  # type: ignore[no-untyped-call]


def size_of(module: nn.Module) -> int:
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
