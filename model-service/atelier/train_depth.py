"""Trains a small DPT on painted scenes, whose depth is known. Continues a stopped training.

`python -m atelier.train_depth --out DIR --minutes 60 --weights DIR/depth`
"""

import argparse
import json
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BitConfig, DPTConfig, DPTForDepthEstimation

from atelier.scenes import KEPT_SCENES, SCENE_SIZE, paint_scene
from atelier.trainer import Trainer, train

# ImageNet's, as all image processors of this family have them.
CHANNEL_MEAN: Final = (0.485, 0.456, 0.406)
CHANNEL_SPREAD: Final = (0.229, 0.224, 0.225)
LOSS_SCALES: Final = 4
# What the network is to answer for the horizon. With 0, its last layer, a ReLU, would learn to be 0 everywhere: much of
# most scenes is far away.
FARTHEST: Final = 0.25
BACKBONE_CHANNELS: Final = (32, 64, 128)


def build_depth_network(size: int = SCENE_SIZE) -> DPTForDepthEstimation:
    """A hybrid DPT with 0.7 million weights: pictures (n, 3, size, size) to nearness (n, size, size).

    Convolutions before the transformer make it learn from thousands of scenes instead of millions of photographs.
    """
    backbone = BitConfig(
        embedding_size=24,
        hidden_sizes=list(BACKBONE_CHANNELS),
        depths=[1, 2, 2],
        layer_type="bottleneck",
        num_groups=8,
        global_padding="same",
        embedding_dynamic_padding=True,
        out_features=["stage1", "stage2", "stage3"],
    )
    config = DPTConfig(
        is_hybrid=True,
        backbone_config=backbone,
        backbone_featmap_shape=[1, BACKBONE_CHANNELS[-1], size // 16, size // 16],
        image_size=size,
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=192,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        backbone_out_indices=[0, 1, 2, 3],
        neck_ignore_stages=[0, 1],
        # The first two are stages of the backbone.
        neck_hidden_sizes=[*BACKBONE_CHANNELS[:2], 64, 64],
        reassemble_factors=[1, 1, 1, 0.5],
        fusion_hidden_size=32,
    )
    network = DPTForDepthEstimation(config)
    # The usual weights are so small that little of the picture would reach the end of so narrow a network.
    for part in (network.neck, network.head):
        for layer in part.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    # It starts near the middle of all answers.
    last = [layer for layer in network.head.head if isinstance(layer, nn.Conv2d)][-1]
    last.weight.data *= 0.1
    assert last.bias is not None
    nn.init.constant_(last.bias, 0.5)
    return network


def processor_of(size: int) -> dict[str, object]:
    """The image processor's configuration, which is saved beside the weights."""
    return {
        "image_processor_type": "DPTImageProcessor",
        "size": {"height": size, "width": size},
        "keep_aspect_ratio": False,
        "do_resize": True,
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(CHANNEL_MEAN),
        "image_std": list(CHANNEL_SPREAD),
    }


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

    def __init__(self, out: Path, minutes: float, batch: int, size: int, start: Path | None) -> None:
        """size: of the pictures, in pixels. start: the checkpoint of a training of another size to begin from."""
        torch.manual_seed(0)
        self.batch, self.size = batch, size
        self.scenes: list[tuple[Tensor, Tensor]] = []
        network = build_depth_network(size)
        if start:
            copy_resized(torch.load(start, map_location="cpu", weights_only=True)["average"], network)
        super().__init__(network, build_depth_network(size), out / "depth.pt", minutes, rate=1e-3)
        # The last layer of the network is a ReLU, which learns nothing where it answers 0.
        self.network.head.head[-1] = nn.Identity()

    def _batch(self) -> tuple[Tensor, Tensor]:
        dice = np.random.default_rng((1, self.step))
        for number in range(self.batch // 2):
            scene = paint_scene(np.random.default_rng((2, self.step, number)), self.size)
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
        predicted = self.network(pictures).predicted_depth.float()
        return depth_loss(predicted, FARTHEST + (1 - FARTHEST) * nearness)

    @torch.inference_mode()
    def figure(self) -> str:
        """The mean of `right_order` over 32 held-out scenes."""
        held = [paint_scene(np.random.default_rng((3, i)), self.size) for i in range(32)]
        pictures = normalised(torch.stack([torch.from_numpy(scene.picture) for scene in held]))
        found = self.average(pictures).predicted_depth
        true = [torch.from_numpy(scene.nearness) for scene in held]
        return f"order {np.mean([right_order(*pair) for pair in zip(found, true, strict=True)]):.4f}"

    def export(self, folder: Path) -> None:
        """Write the average in half precision, and how pictures are prepared for it."""
        super().export(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(processor_of(self.size), indent=2) + "\n")


def copy_resized(theirs: dict[str, Tensor], network: DPTForDepthEstimation) -> None:
    """Take over the weights of a network for another size, whose positions are on another grid."""
    ours = network.state_dict()
    name = "dpt.embeddings.position_embeddings"
    first, grid = theirs[name][:, :1], theirs[name][0, 1:]
    side, wanted = round(len(grid) ** 0.5), round((ours[name].shape[1] - 1) ** 0.5)
    square = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scaled = nn.functional.interpolate(square, size=(wanted, wanted), mode="bilinear").flatten(2).transpose(1, 2)
    network.load_state_dict({**ours, **theirs, name: torch.cat([first, scaled], 1)})


def _training(given: argparse.Namespace) -> DepthTraining:
    return DepthTraining(given.out, given.minutes, given.batch, given.size, given.start)


if __name__ == "__main__":
    train(__doc__, 12, _training, size=SCENE_SIZE)
