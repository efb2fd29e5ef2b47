"""Small networks with random weights of the classes that find instances, and the stock post-processing of RF-DETR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    RfDetrConfig,
    RfDetrForInstanceSegmentation,
    SwinConfig,
)
from transformers.models.rf_detr.configuration_rf_detr import RfDetrDinov2Config

LABELS = {0: "cat", 1: "dog", 2: "sofa"}
NUMBERS = {name: number for number, name in LABELS.items()}


def small_rf_detr_config(queries: int = 6, side: int = 64) -> RfDetrConfig:
    """An RF-DETR-Seg with patches of 8 pixels for pictures of this size."""
    backbone = RfDetrDinov2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        patch_size=8,
        image_size=side,
        out_features=["stage1", "stage2"],
        num_windows=2,
    )
    return RfDetrConfig(
        backbone_config=backbone,
        d_model=32,
        decoder_layers=1,
        decoder_ffn_dim=32,
        decoder_self_attention_heads=2,
        decoder_cross_attention_heads=2,
        num_queries=queries,
        group_detr=1,
        c2f_num_blocks=1,
        dropout=0.0,
        intermediate_size=32,
        id2label=LABELS,
        label2id=NUMBERS,
    )


def small_mask2former_config(queries: int = 6) -> Mask2FormerConfig:
    """A Mask2Former with instances, over a small Swin."""
    backbone = SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=queries,
        id2label=LABELS,
        label2id=NUMBERS,
    )


def save_instance_network(kind: str, folder: Path) -> Path:
    """Write a random network of a model_type into a folder, in transformers' format."""
    torch.manual_seed(0)
    network: Any = (
        RfDetrForInstanceSegmentation(small_rf_detr_config())
        if kind == "rf_detr"
        else Mask2FormerForUniversalSegmentation(small_mask2former_config())
    )
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"size": {"height": 64, "width": 96}}')
    return folder


def stock_instances(answer: Any, threshold: float, size: tuple[int, int]) -> list[Tensor]:
    """The masks (height, width) of an RF-DETR's answer, all enlarged at once to the size of the picture.

    As RfDetrImageProcessor.post_process_instance_segmentation does with return_binary_maps; the processor itself needs
    torchvision.
    """
    scores, _ = answer.logits[0].sigmoid().max(-1)
    masks = answer.pred_masks[0][scores > threshold]
    large = nn.functional.interpolate(masks[:, None].float(), size=size, mode="bilinear", align_corners=False)[:, 0]
    return list(torch.stack([mask > 0 for mask in large]))
