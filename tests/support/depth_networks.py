"""Small random networks for depth, in the format of the hub."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    GLPNConfig,
    GLPNForDepthEstimation,
    GLPNImageProcessorPil,
)


def save_depth_anything(folder: Path, side: int = 28, patch: int = 7) -> Path:
    """A Depth Anything of some thousand weights, whose answers are an inverse of the distance."""
    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        mlp_ratio=2,
        patch_size=patch,
        image_size=side,
        out_features=["stage1", "stage2", "stage3"],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
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
