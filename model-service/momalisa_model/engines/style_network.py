"""Paints a picture in a style: the transformer network of arbitrary style transfer, in float32.

The same network as in the file of `style_weights`, without its rounding to eight bits, which shows as a grid on smooth
areas and flickers in clips; and at any size, on any device. Knows nothing of requests.

Source: Ghiasi et al., Exploring the structure of a real-time, arbitrary neural artistic stylization network, 2017,
table 1, with a quarter of the channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad, relu

from momalisa_model.cancellation import Cancelled, ShouldStop, never

CONTRACT = tuple(f"transformer/contract/conv{number}" for number in (1, 2, 3))
RESIDUAL = tuple(f"transformer/residual/residual{number}" for number in range(1, 6))
EXPAND = tuple(f"transformer/expand/conv{number}/conv" for number in (1, 2, 3))
NORMALISED = (*(f"{block}/conv{number}" for block, number in product(RESIDUAL, (1, 2))), *EXPAND)
SHIFT, SCALE = "Conv", "Conv_1"
EPSILON = 1e-5
# The network halves its input twice, so it paints a picture differently at each of its places modulo 4. Four of the 16,
# one in each row and column.
STRIDE = 4
PLACES = ((0, 0), (2, 1), (1, 3), (3, 2))


def weight_names() -> Iterator[str]:
    """The tensors that the network consists of."""
    for name in (*CONTRACT, *NORMALISED):
        yield f"{name}/weights_dequant"
    for name in CONTRACT:
        yield f"{name}/Conv2D_bias_dequant"
    for name, which in product(NORMALISED, (SHIFT, SCALE)):
        yield f"style_params/{name}/StyleNorm/{which}/weights_dequant"
        yield f"style_params/{name}/StyleNorm/{which}/Conv2D_bias_dequant"


class StyleNetwork:
    """The network on its device. Stateless: `paint` may be called in any thread."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]], device: torch.device) -> None:
        """weights: the tensors of `weight_names`."""
        self.device = device
        self._weights = {name: _on(device, value) for name, value in weights.items()}

    @torch.inference_mode()
    def paint(
        self,
        picture: NDArray[np.uint8],
        style: NDArray[np.float32],
        should_stop: ShouldStop = never,
        places: Sequence[tuple[int, int]] = PLACES,
    ) -> Tensor:
        """A picture in a style: (height, width, 3) float32 in [0, 1], on the device.

        picture: (height, width, 3), at least 16 pixels a side. style: a vector of 100 numbers. places: how far the
        picture is moved down and right, from 0 to 3, before it is painted and moved back. The result is the mean of
        these: it lacks the grid that the network leaves, and most of what flickers when a picture moves
        (docs/adr/0139). Raises Cancelled if should_stop() is true.
        """
        height, width, _ = picture.shape
        vector = torch.from_numpy(style).to(self.device).reshape(1, -1, 1, 1)
        run = _Run(self._weights, vector, should_stop)
        image = torch.from_numpy(picture).to(self.device).permute(2, 0, 1)[None].float().div_(255)
        total = torch.zeros_like(image)
        for down, right in places:
            below, beyond = STRIDE + -(height + down) % STRIDE, STRIDE + -(width + right) % STRIDE
            moved = pad(image, (right, beyond, down, below), "reflect")
            total += run.painted(moved)[:, :, down : down + height, right : right + width]
        return total[0].permute(1, 2, 0).div_(len(places))


class _Run:
    """The network in one style."""

    def __init__(self, weights: Mapping[str, Tensor], vector: Tensor, should_stop: ShouldStop) -> None:
        self._weights, self._should_stop = weights, should_stop
        self._norms = {
            name: (self._params(name, SHIFT, vector), self._params(name, SCALE, vector)) for name in NORMALISED
        }

    def painted(self, image: Tensor) -> Tensor:
        """image, result: (1, 3, height, width) in [0, 1], with sides that are multiples of 4."""
        image = image.contiguous(memory_format=torch.channels_last)
        for name, stride in zip(CONTRACT, (1, 2, 2), strict=True):
            bias = self._weights[f"{name}/Conv2D_bias_dequant"]
            image = relu(self._convolved(name, image, bias, stride), inplace=True)
        for name in RESIDUAL:
            inner = relu(self._normalised(f"{name}/conv1", image), inplace=True)
            image = image + self._normalised(f"{name}/conv2", inner)
        for name in EXPAND[:-1]:
            image = relu(self._normalised(name, image, doubled=True), inplace=True)
        return self._normalised(EXPAND[-1], image).sigmoid_()

    def _params(self, name: str, which: str, vector: Tensor) -> Tensor:
        """Shift or scale of a normalised convolution in the style."""
        full = f"style_params/{name}/StyleNorm/{which}"
        return conv2d(vector, self._weights[f"{full}/weights_dequant"], self._weights[f"{full}/Conv2D_bias_dequant"])

    def _normalised(self, name: str, value: Tensor, doubled: bool = False) -> Tensor:
        """A convolution whose channels get the style's mean and deviation."""
        value = self._convolved(name, value, doubled=doubled)
        variance, mean = torch.var_mean(value, (2, 3), correction=0, keepdim=True)
        shift, scale = self._norms[name]
        scale = scale * torch.rsqrt(variance + EPSILON)
        return value.mul_(scale).add_(shift - mean * scale)

    def _convolved(
        self, name: str, value: Tensor, bias: Tensor | None = None, stride: int = 1, doubled: bool = False
    ) -> Tensor:
        """doubled: the convolution of the value at twice its size."""
        if self._should_stop():
            raise Cancelled
        weights = self._weights[f"{name}/weights_dequant"]
        if doubled:
            # The same as to double it before the border is mirrored, without a second copy at full size.
            wide = interpolate(pad(value, [1] * 4, "replicate"), scale_factor=2, mode="nearest")
            return conv2d(wide, weights)[:, :, 1:-1, 1:-1]
        border = weights.shape[-1] // 2
        return conv2d(pad(value, [border] * 4, "reflect"), weights, bias, stride)


def _on(device: torch.device, value: NDArray[np.float32]) -> Tensor:
    tensor = torch.from_numpy(value).to(device)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
