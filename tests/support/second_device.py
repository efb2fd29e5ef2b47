"""A second device that is not there: its tensors are on the CPU, but no operation may mix them with others.

Tests use it in place of a second GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CPU, SECOND = torch.device("cpu"), torch.device("privateuseone", 1)


class OnSecond(torch.Tensor):
    """A tensor on the second device. What is computed from it is there, too."""


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Within the block, tensors and modules can be moved to the second device, and computed with there."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # a parameter gets another type
    try:
        with _TwoDevices():
            yield SECOND
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


class _TwoDevices(TorchFunctionMode):
    """Sees each call of torch, and which of the two devices its tensors are on."""

    def __init__(self) -> None:
        super().__init__()
        self._special: dict[Any, Any] = {
            torch.Tensor.device.__get__: lambda tensor, *_: SECOND if isinstance(tensor, OnSecond) else CPU,
            # They compute nothing: one reads the arguments of Module.to, the other compares types of a tensor.
            torch._C._nn._parse_to: torch._C._nn._parse_to,
            torch._has_compatible_shallow_copy_type: torch._has_compatible_shallow_copy_type,
        }

    def __torch_function__(self, function: Any, _: Any, given: Any = (), named: Any = None) -> Any:
        named = named or {}
        if function in self._special:
            return self._special[function](*given, **named)
        leaves = tree_leaves((given, named))
        wanted = [leaf for leaf in leaves if isinstance(leaf, torch.device)] + [CPU] * (function is torch.Tensor.cpu)
        if not wanted and len({isinstance(leaf, OnSecond) for leaf in leaves if _has_device(leaf)}) == 2:
            raise RuntimeError(f"{function} got tensors of two devices")
        given, named = tree_map(lambda leaf: CPU if isinstance(leaf, torch.device) else leaf, (given, named))
        result = function(*given, **named)
        if wanted and isinstance(result, torch.Tensor):
            return result.as_subclass(OnSecond if wanted[-1] == SECOND else torch.Tensor)
        return result


def _has_device(leaf: object) -> bool:
    """Single numbers can be combined with tensors of any device."""
    return isinstance(leaf, torch.Tensor) and leaf.dim() > 0
