"""Small random networks for depth, in the format of the hub."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    GLPNConfig,
    GLPNForDepthEstimation,
    GLPNImageProcessorPil,
)


def _dinov2(side: int, patch: int, stages: int) -> Dinov2Config:
    return Dinov2Config(
        hidden_size=8,
        num_hidden_layers=stages,
        num_attention_heads=2,
        mlp_ratio=2,
        patch_size=patch,
        image_size=side,
        out_features=[f"stage{number + 1}" for number in range(stages)],
        reshape_hidden_states=False,
    )


def save_dpt_of_dinov2(folder: Path) -> Path:
    """A DPT of some thousand weights on a DINOv2, whose answers are metres: it has a projection before its head."""
    return _saved_dpt(folder, add_projection=True)


def save_dpt(folder: Path) -> Path:
    """The same without a projection, as those of MiDaS: its answers are an inverse of the distance."""
    return _saved_dpt(folder, add_projection=False)


def _saved_dpt(folder: Path, *, add_projection: bool) -> Path:
    torch.manual_seed(0)
    config = DPTConfig(
        backbone_config=_dinov2(28, 7, 4),
        neck_hidden_sizes=[8, 8, 8, 8],
        use_bias_in_fusion_residual=False,
        add_projection=add_projection,
    )
    network = DPTForDepthEstimation(config)
    # Its last layer cuts negative numbers off: with random weights, all of them.
    torch.nn.init.ones_(network.head.head[-2].bias)
    network.save_pretrained(folder)
    return folder


def save_depth_anything(folder: Path, side: int = 28, patch: int = 7) -> Path:
    """A Depth Anything of some thousand weights, whose answers are an inverse of the distance."""
    torch.manual_seed(0)
    config = DepthAnythingConfig(
        backbone_config=_dinov2(side, patch, 3),
        patch_size=patch,
        reassemble_hidden_size=8,
        reassemble_factors=[2, 1, 0.5],
        neck_hidden_sizes=[8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    return folder


def save_glpn(folder: Path) -> Path:
    """A GLPN of some thousand weights, whose answers are metres."""
    torch.manual_seed(0)
    config = GLPNConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 8],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 1],
        mlp_ratios=[1, 1],
        decoder_hidden_size=8,
    )
    GLPNForDepthEstimation(config).save_pretrained(folder)
    GLPNImageProcessorPil().save_pretrained(folder)
    return folder
