"""Trains a small Mask2Former on painted scenes, whose objects are known. Continues a stopped training.

`python -m atelier.train_instances --out DIR --minutes 60 --weights DIR/instances`
"""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BitConfig, Mask2FormerConfig, Mask2FormerForUniversalSegmentation

from atelier.scenes import KEPT_SCENES, LABELS, Scene, paint_scene
from atelier.train_depth import CHANNEL_MEAN, CHANNEL_SPREAD, normalised
from atelier.trainer import Trainer, train

QUERIES: Final = 16
# Of the network's pictures, in pixels.
INSTANCES_SIZE: Final = 128


def build_instance_network() -> Mask2FormerForUniversalSegmentation:
    """Mask2Former with 0.3 million weights; masks have a quarter of the picture's size.

    Convolutions and the masks in its attention make it learn from thousands of scenes instead of millions.
    """
    backbone = BitConfig(
        embedding_size=24,
        hidden_sizes=[32, 64, 96, 128],
        depths=[1, 2, 2, 1],
        layer_type="bottleneck",
        num_groups=8,
        global_padding="same",
        embedding_dynamic_padding=True,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=64,
        mask_feature_size=64,
        hidden_dim=64,
        encoder_layers=1,
        encoder_feedforward_dim=128,
        decoder_layers=3,
        dim_feedforward=128,
        num_attention_heads=4,
        num_queries=QUERIES,
        train_num_points=1024,
        # Shapes are harder to tell apart than to outline.
        class_weight=6.0,
        dropout=0.0,
        id2label=dict(enumerate(LABELS)),
        label2id={name: number for number, name in enumerate(LABELS)},
    )
    return Mask2FormerForUniversalSegmentation(config)


def instance_processor() -> dict[str, object]:
    """The image processor's configuration, which is saved beside the weights."""
    return {
        "image_processor_type": "Mask2FormerImageProcessor",
        "size": {"height": INSTANCES_SIZE, "width": INSTANCES_SIZE},
        "size_divisor": 32,
        "do_resize": True,
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(CHANNEL_MEAN),
        "image_std": list(CHANNEL_SPREAD),
    }


def targets_of(scene: Scene) -> dict[str, Tensor]:
    """What the loss compares with: class_labels (n,) and masks (n, h, w)."""
    numbers = torch.arange(1, len(scene.labels) + 1)
    masks = torch.from_numpy(scene.instances)[None] == numbers[:, None, None]
    return {"class_labels": torch.tensor(scene.labels, dtype=torch.int64), "masks": masks}


def found_in(answer: Any, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (m,), labels (m,) and masks (m, h, w) in the answer about one picture.

    Source: B. Cheng et al., Masked-attention Mask Transformer for Universal Image Segmentation, 2022, section 4.1: the
    score of an instance is that of its class times the mean of its mask.
    """
    scores, labels = answer.class_queries_logits[0].softmax(-1)[:, :-1].max(-1)
    large = nn.functional.interpolate(answer.masks_queries_logits, size=size, mode="bilinear")[0]
    masks = large > 0
    sure = (large.sigmoid() * masks).sum((1, 2)) / masks.sum((1, 2)).clamp(min=1)
    return scores * sure, labels, masks


def average_precision(
    found: list[tuple[Tensor, Tensor, Tensor]], truth: list[dict[str, Tensor]], least: float = 0.5
) -> float:
    """Mask AP at an IoU of `least`, the mean over classes with objects, all points interpolated as in COCO.

    found: for each scene scores (m,), labels (m,) and masks (m, h, w). truth: `targets_of` each scene.
    """
    values = []
    for label in range(len(LABELS)):
        total, hits = 0, list[tuple[float, bool]]()
        for (scores, labels, masks), objects in zip(found, truth, strict=True):
            true = objects["masks"][objects["class_labels"] == label]
            total += len(true)
            hits += _matched(scores[labels == label], masks[labels == label], true, least)
        if total:
            right = np.cumsum([hit for _, hit in sorted(hits, key=lambda one: -one[0])])
            precision = right / (np.arange(len(right)) + 1)
            best = np.maximum.accumulate(precision[::-1])[::-1] if len(right) else precision
            recall = np.diff(np.concatenate([[0], right])) / total
            values.append(float((best * recall).sum()))
    return float(np.mean(values)) if values else 0.0


def _matched(scores: Tensor, masks: Tensor, true: Tensor, least: float) -> list[tuple[float, bool]]:
    """(score, whether it is the first to find its object) for each mask, the best ones first."""
    taken, hits = set[int](), []
    for index in scores.argsort(descending=True).tolist():
        common = (masks[index] & true).sum((1, 2)).float()
        overlaps = common / (masks[index] | true).sum((1, 2)).clamp(min=1)
        best = int(overlaps.argmax()) if len(true) else -1
        hit = best >= 0 and float(overlaps[best]) >= least and best not in taken
        if hit:
            taken.add(best)
        hits.append((float(scores[index]), hit))
    return hits


class InstanceTraining(Trainer):
    """A quarter of each batch is new scenes, the others earlier ones of this process, mirrored at random."""

    def __init__(self, out: Path, minutes: float, batch: int) -> None:
        torch.manual_seed(0)
        self.batch = batch
        self.scenes: list[Scene] = []
        super().__init__(build_instance_network(), build_instance_network(), out / "instances.pt", minutes, rate=1e-3)

    def _batch(self) -> list[Scene]:
        dice = np.random.default_rng((1, self.step))
        numbers = range(self.batch // 4)
        fresh = [paint_scene(np.random.default_rng((2, self.step, number)), INSTANCES_SIZE) for number in numbers]
        self.scenes += [scene for scene in fresh if scene.labels]
        del self.scenes[:-KEPT_SCENES]
        old = [self.scenes[i] for i in dice.integers(len(self.scenes), size=self.batch - len(fresh))]
        both = [*fresh, *(_mirrored(scene) if dice.random() < 0.5 else scene for scene in old)]
        return [scene for scene in both if scene.labels]

    def loss(self) -> Tensor:
        """The loss of the batch of the current step."""
        # The loss looks at random points, which are the same whenever the training was stopped.
        torch.manual_seed(self.step)
        scenes = self._batch()
        pictures = normalised(torch.stack([torch.from_numpy(scene.picture.copy()) for scene in scenes]))
        targets = [targets_of(scene) for scene in scenes]
        self.network.train()
        answer = self.network(
            pictures,
            mask_labels=[target["masks"].float() for target in targets],
            class_labels=[target["class_labels"] for target in targets],
        )
        loss: Tensor = answer.loss.squeeze()
        return loss

    @torch.inference_mode()
    def figure(self) -> str:
        """Mask AP50 over 48 held-out scenes."""
        held = [paint_scene(np.random.default_rng((3, i)), INSTANCES_SIZE) for i in range(48)]
        answers = [self.average(normalised(torch.from_numpy(scene.picture)[None])) for scene in held]
        found = [found_in(answer, (INSTANCES_SIZE, INSTANCES_SIZE)) for answer in answers]
        return f"AP50 {average_precision(found, [targets_of(scene) for scene in held]):.3f}"

    def export(self, folder: Path) -> None:
        """Write the average in half precision, and how pictures are prepared for it."""
        super().export(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(instance_processor(), indent=2) + "\n")


def _mirrored(scene: Scene) -> Scene:
    flipped = (scene.picture[:, ::-1].copy(), scene.nearness[:, ::-1].copy(), scene.instances[:, ::-1].copy())
    return Scene(*flipped, scene.labels)


if __name__ == "__main__":
    train(__doc__, 8, lambda given: InstanceTraining(given.out, given.minutes, given.batch))
