"""Trains a small Depth Anything on painted scenes, whose depth is known. Continues a stopped training.

`python -m atelier.train_depth --out DIR --minutes 120 --weights DIR/depth`
"""

from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from atelier.scenes import KEPT_SCENES, SCENE_SIZE, paint_scene
from atelier.trainer import Trainer, train

NETWORK_PATCH: Final = 8
# ImageNet's, as all image processors of this family have them.
CHANNEL_MEAN: Final = (0.485, 0.456, 0.406)
CHANNEL_SPREAD: Final = (0.229, 0.224, 0.225)
LOSS_SCALES: Final = 4
# What the network is to answer for the horizon. With 0, its last layer, a ReLU, would learn to be 0 everywhere: much of
# most scenes is far away.
FARTHEST: Final = 0.25


def build_depth_network() -> DepthAnythingForDepthEstimation:
    """Depth Anything with 1.0 million weights and patches of 8 pixels: (n, 3, h, w) to nearness (n, h, w)."""
    backbone = Dinov2Config(
        hidden_size=96,
        num_hidden_layers=6,
        num_attention_heads=4,
        mlp_ratio=3,
        patch_size=NETWORK_PATCH,
        image_size=SCENE_SIZE,
        out_features=["stage2", "stage3", "stage5", "stage6"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=NETWORK_PATCH,
        reassemble_hidden_size=96,
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_sizes=[24, 48, 96, 96],
        fusion_hidden_size=32,
        head_hidden_size=16,
    )
    network = DepthAnythingForDepthEstimation(config)
    # The usual weights are so small that little of the picture would reach the end of so narrow a network.
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_normal_(layer.weight)
    # It starts near the middle of all answers.
    network.head.conv3.weight.data *= 0.05
    nn.init.constant_(network.head.conv3.bias, 0.5)
    return network


def normalised(pictures: Tensor) -> Tensor:
    """Pictures (n, h, w, 3) uint8 as the network gets them, (n, 3, h, w) float32."""
    mean, spread = torch.tensor(CHANNEL_MEAN), torch.tensor(CHANNEL_SPREAD)
    return ((pictures.float() / 255 - mean) / spread).permute(0, 3, 1, 2).contiguous()


def depth_loss(predicted: Tensor, nearness: Tensor) -> Tensor:
    """L1 of nearness (n, h, w), plus that of its differences at several scales, which makes edges sharp.

    Source: R. Ranftl et al., Towards Robust Monocular Depth Estimation, 2020, equation 11.
    """
    off = predicted - nearness
    loss = off.abs().mean()
    for scale in range(LOSS_SCALES):
        coarse = off[:, :: 2**scale, :: 2**scale]
        for axis in (-1, -2):
            loss = loss + 0.5 * coarse.diff(dim=axis).abs().mean()
    return loss


def right_order(predicted: Tensor, nearness: Tensor, pairs: int = 20_000, least: float = 0.03) -> float:
    """The share of random pairs of pixels (h, w) in the right order, among those whose nearness differs by `least`."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(nearness.numel(), (2, pairs), generator=generator)
    true = nearness.flatten()[first] - nearness.flatten()[second]
    ours = predicted.flatten()[first] - predicted.flatten()[second]
    told = true.abs() >= least
    return float((true.sign() == ours.sign())[told].float().mean()) if told.any() else 1.0


class DepthTraining(Trainer):
    """Half of each batch are new scenes, the other half earlier ones of this process, mirrored at random."""

    def __init__(self, out: Path, minutes: float, batch: int) -> None:
        torch.manual_seed(0)
        self.batch = batch
        self.scenes: list[tuple[Tensor, Tensor]] = []
        super().__init__(build_depth_network(), build_depth_network(), out / "depth.pt", minutes, rate=5e-4)
        # The last layer of the network is a ReLU, which learns nothing where it answers 0.
        self.network.head.activation2 = nn.Identity()

    def _batch(self) -> tuple[Tensor, Tensor]:
        dice = np.random.default_rng((1, self.step))
        for number in range(self.batch // 2):
            scene = paint_scene(np.random.default_rng((2, self.step, number)), SCENE_SIZE)
            self.scenes.append((torch.from_numpy(scene.picture), torch.from_numpy(scene.nearness)))
        del self.scenes[:-KEPT_SCENES]
        fresh = range(len(self.scenes) - self.batch // 2, len(self.scenes))
        chosen = [*fresh, *dice.integers(len(self.scenes), size=self.batch - len(fresh))]
        pictures = torch.stack([self.scenes[i][0] for i in chosen])
        nearness = torch.stack([self.scenes[i][1] for i in chosen])
        if dice.random() < 0.5:
            pictures, nearness = pictures.flip(2), nearness.flip(2)
        return normalised(pictures), nearness

    def loss(self) -> Tensor:
        """The loss of the batch of the current step."""
        pictures, nearness = self._batch()
        return depth_loss(self.network(pictures).predicted_depth, FARTHEST + (1 - FARTHEST) * nearness)

    @torch.inference_mode()
    def figure(self) -> str:
        """The mean of `right_order` over 32 held-out scenes."""
        held = [paint_scene(np.random.default_rng((3, i)), SCENE_SIZE) for i in range(32)]
        pictures = normalised(torch.stack([torch.from_numpy(scene.picture) for scene in held]))
        found = self.average(pictures).predicted_depth
        true = [torch.from_numpy(scene.nearness) for scene in held]
        return f"order {np.mean([right_order(*pair) for pair in zip(found, true, strict=True)]):.4f}"


if __name__ == "__main__":
    train(__doc__, 12, lambda given: DepthTraining(given.out, given.minutes, given.batch))
