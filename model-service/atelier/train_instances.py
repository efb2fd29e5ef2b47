"""Trains a small RF-DETR-Seg on painted scenes, whose objects are known. Continues a stopped training.

`python -m atelier.train_instances --out DIR --minutes 120 --weights DIR/instances`
"""

import json
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import RfDetrConfig, RfDetrForInstanceSegmentation
from transformers.models.rf_detr.configuration_rf_detr import RfDetrDinov2Config

from atelier.instance_loss import instance_loss
from atelier.scenes import KEPT_SCENES, LABELS, SCENE_SIZE, Scene, paint_scene
from atelier.train_depth import CHANNEL_MEAN, CHANNEL_SPREAD, normalised
from atelier.trainer import Trainer, train

QUERIES: Final = 20
NETWORK_PATCH: Final = 8
# Of the network's pictures, in pixels; its positions are a grid for SCENE_SIZE.
INSTANCES_SIZE: Final = 128


def build_instance_network() -> RfDetrForInstanceSegmentation:
    """RF-DETR-Seg with 1.1 million weights and patches of 8 pixels; masks have a quarter of the picture's size."""
    backbone = RfDetrDinov2Config(
        hidden_size=96,
        num_hidden_layers=6,
        num_attention_heads=4,
        mlp_ratio=3,
        patch_size=NETWORK_PATCH,
        image_size=SCENE_SIZE,
        out_features=["stage2", "stage4", "stage6"],
        num_windows=1,
    )
    config = RfDetrConfig(
        backbone_config=backbone,
        d_model=96,
        decoder_layers=2,
        decoder_ffn_dim=192,
        decoder_self_attention_heads=4,
        decoder_cross_attention_heads=6,
        num_queries=QUERIES,
        group_detr=1,
        c2f_num_blocks=1,
        dropout=0.0,
        intermediate_size=192,
        mask_downsample_ratio=4,
        id2label=dict(enumerate(LABELS)),
        label2id={name: number for number, name in enumerate(LABELS)},
    )
    return RfDetrForInstanceSegmentation(config)


def instance_processor() -> dict[str, object]:
    """The image processor's configuration, which is saved beside the weights."""
    return {
        "image_processor_type": "RfDetrImageProcessor",
        "size": {"height": INSTANCES_SIZE, "width": INSTANCES_SIZE},
        "do_resize": True,
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "do_pad": False,
        "image_mean": list(CHANNEL_MEAN),
        "image_std": list(CHANNEL_SPREAD),
    }


def targets_of(scene: Scene) -> dict[str, Tensor]:
    """What the loss compares with: class_labels (n,), boxes (n, 4) as centre and size in [0, 1], masks (n, h, w)."""
    numbers = torch.arange(1, len(scene.labels) + 1)
    masks = torch.from_numpy(scene.instances)[None] == numbers[:, None, None]
    boxes = torch.stack([_box(mask) for mask in masks]) if len(numbers) else torch.zeros(0, 4)
    return {"class_labels": torch.tensor(scene.labels, dtype=torch.int64), "boxes": boxes, "masks": masks}


def _box(mask: Tensor) -> Tensor:
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    left, right, top, bottom = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    return torch.tensor([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]) / len(mask)


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
    """A third of each batch is new scenes, the others earlier ones of this process, mirrored at random."""

    def __init__(self, out: Path, minutes: float, batch: int) -> None:
        torch.manual_seed(0)
        self.batch = batch
        self.scenes: list[Scene] = []
        super().__init__(build_instance_network(), build_instance_network(), out / "instances.pt", minutes, rate=8e-4)

    def _batch(self) -> list[Scene]:
        dice = np.random.default_rng((1, self.step))
        numbers = range(self.batch // 3)
        fresh = [paint_scene(np.random.default_rng((2, self.step, number)), INSTANCES_SIZE) for number in numbers]
        self.scenes += [scene for scene in fresh if scene.labels]
        del self.scenes[:-KEPT_SCENES]
        old = [self.scenes[i] for i in dice.integers(len(self.scenes), size=self.batch - len(fresh))]
        both = [*fresh, *(_mirrored(scene) if dice.random() < 0.5 else scene for scene in old)]
        return [scene for scene in both if scene.labels]

    def loss(self) -> Tensor:
        """The loss of the batch of the current step."""
        # The noise of a step is the same whenever the training was stopped.
        torch.manual_seed(self.step)
        scenes = self._batch()
        pictures = normalised(torch.stack([torch.from_numpy(scene.picture.copy()) for scene in scenes]))
        self.network.train()
        return instance_loss(self.network, pictures, [targets_of(scene) for scene in scenes])

    @torch.inference_mode()
    def figure(self) -> str:
        """Mask AP50 over 48 held-out scenes."""
        held = [paint_scene(np.random.default_rng((3, i)), INSTANCES_SIZE) for i in range(48)]
        found = []
        for scene in held:
            answer = self.average(normalised(torch.from_numpy(scene.picture)[None]))
            scores, labels = answer.logits[0].sigmoid().max(-1)
            large = nn.functional.interpolate(answer.pred_masks, size=scene.instances.shape, mode="bilinear")[0]
            found.append((scores, labels, large > 0))
        return f"AP50 {average_precision(found, [targets_of(scene) for scene in held]):.3f}"

    def export(self, folder: Path) -> None:
        """Write the average in half precision, with calibrated scores, and how pictures are prepared for it."""
        calibrate(self.average, [paint_scene(np.random.default_rng((4, i)), INSTANCES_SIZE) for i in range(200)])
        super().export(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(instance_processor(), indent=2) + "\n")


@torch.no_grad()
def calibrate(network: RfDetrForInstanceSegmentation, scenes: list[Scene]) -> None:
    """Move all scores, so that as many queries have one of at least a half as the scenes have objects.

    The focal loss makes a network so cautious that the usual threshold of a half would show a fifth of the objects.
    """
    pictures = [normalised(torch.from_numpy(scene.picture)[None]) for scene in scenes]
    best = torch.cat([network(picture).logits[0].amax(-1) for picture in pictures])
    objects = sum(len(scene.labels) for scene in scenes)
    last_shown, first_hidden = best.sort(descending=True).values[objects - 1 : objects + 1]
    network.model.class_embed.bias -= (last_shown + first_hidden) / 2


def _mirrored(scene: Scene) -> Scene:
    flipped = (scene.picture[:, ::-1].copy(), scene.nearness[:, ::-1].copy(), scene.instances[:, ::-1].copy())
    return Scene(*flipped, scene.labels)


if __name__ == "__main__":
    train(__doc__, 6, lambda given: InstanceTraining(given.out, given.minutes, given.batch))
