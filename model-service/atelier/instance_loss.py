"""The loss of the small RF-DETR-Seg, which learns from few pictures because hardly anything in it must be searched for.

The loss in transformers matches queries with objects one to one in each stage. Here each token of the encoder learns
which object it is in the middle of (as in CenterNet), and a second set of queries starts from the true boxes with noise
(as in DN-DETR) and learns the masks from the first step. Only the queries that are used afterwards are matched.
Sources: X. Zhou et al., Objects as Points, 2019; F. Li et al., DN-DETR, 2022.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from transformers import RfDetrForInstanceSegmentation
from transformers.loss.loss_for_object_detection import generalized_box_iou
from transformers.models.rf_detr.modeling_rf_detr import refine_bboxes

# Of a box's size, how far noise moves and scales it.
BOX_NOISE: Final = 0.25
CLASS_WEIGHT: Final = 2.0
BOX_WEIGHT: Final = 2.0
MASK_WEIGHT: Final = 3.0


@dataclass(frozen=True)
class Objects:
    """All objects of a batch in one row: the picture (k,), label (k,), box (k, 4) and mask (k, h, w) of each."""

    picture: Tensor
    labels: Tensor
    boxes: Tensor
    masks: Tensor

    @classmethod
    def of(cls, targets: list[dict[str, Tensor]]) -> "Objects":
        """From the targets of each picture."""
        counts = torch.tensor([len(one["class_labels"]) for one in targets])
        rows = [torch.cat([one[name] for one in targets]) for name in ("class_labels", "boxes", "masks")]
        return cls(torch.arange(len(targets)).repeat_interleave(counts), rows[0], rows[1], rows[2].float())


def instance_loss(network: RfDetrForInstanceSegmentation, pictures: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
    """The loss of a batch. pictures: (n, 3, h, w), normalised; targets: `targets_of` each scene."""
    core: Any = network.model.model
    features, valid = core.backbone(pictures, torch.ones(len(pictures), *pictures.shape[-2:], dtype=torch.long))
    with torch.autocast("cpu", enabled=False):  # boxes need all digits
        return _losses(network, features.float(), valid, Objects.of(targets))


def _losses(network: RfDetrForInstanceSegmentation, features: Tensor, valid: Tensor, objects: Objects) -> Tensor:
    """The loss of the features (n, c, h, w) of a batch."""
    core: Any = network.model.model
    tokens = features.flatten(2).transpose(1, 2)
    encoded, classes, boxes = _proposals(core, tokens, valid, features.shape[-2:])
    heat, middle = _heat(objects, classes.shape, features.shape[-2:])
    loss = CLASS_WEIGHT * _focal(classes, heat) / len(objects.labels)
    loss = loss + BOX_WEIGHT * _box_loss(boxes[objects.picture, middle], objects.boxes)
    early = network.get_mask_logits(encoded[objects.picture, middle][:, None], features[objects.picture])[:, 0]
    loss = loss + _mask_loss(early, objects.masks)
    best = classes.detach().amax(-1).topk(network.config.num_queries, dim=1).indices
    start = boxes.detach().gather(1, best[..., None].expand(-1, -1, 4))
    return loss + _decoder_loss(network, features, start, objects)


def _proposals(core: Any, tokens: Tensor, valid: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    """The first group's features, classes and boxes at each token."""
    query, anchors, invalid = core.gen_encoder_output_proposals(tokens, ~valid.flatten(1), [tuple(shape)])
    encoded = core.enc_output_norm[0](core.enc_output[0](query))
    classes = core.enc_out_class_embed[0](encoded).masked_fill(invalid, -20)
    return encoded, classes, refine_bboxes(anchors, core.enc_out_bbox_embed[0](encoded))


def _heat(objects: Objects, shape: torch.Size, grid: torch.Size) -> tuple[Tensor, Tensor]:
    """Targets of the tokens' classes, 1 in the middle of each object and falling around it, and those middle tokens."""
    share = nn.functional.adaptive_avg_pool2d(objects.masks[:, None], (grid[0], grid[1]))[:, 0]
    y, x = torch.meshgrid(*((torch.arange(n) + 0.5) / n for n in grid), indexing="ij")
    far = ((x - objects.boxes[:, 0, None, None]) / objects.boxes[:, 2, None, None].clamp(min=0.05)) ** 2
    far = far + ((y - objects.boxes[:, 1, None, None]) / objects.boxes[:, 3, None, None].clamp(min=0.05)) ** 2
    # A token that the object covers, and of these the one nearest to the middle of its box.
    middle = (far + 4 * (1 - share / share.amax((1, 2), keepdim=True))).flatten(1).argmin(1)
    py, px = y.flatten()[middle][:, None, None], x.flatten()[middle][:, None, None]
    near = ((x - px) / objects.boxes[:, 2, None, None].clamp(min=0.05)) ** 2
    near = near + ((y - py) / objects.boxes[:, 3, None, None].clamp(min=0.05)) ** 2
    bump = torch.exp(-near * 30).flatten(1)
    heat = torch.zeros(shape)
    for row in range(len(middle)):
        place = heat[objects.picture[row], :, objects.labels[row]]
        torch.maximum(place, bump[row], out=place)
    heat[objects.picture, middle, objects.labels] = 1.0
    return heat, middle


def _focal(logits: Tensor, heat: Tensor) -> Tensor:
    """Focal loss whose negatives count less the nearer they are to an object's middle, a sum."""
    chance = logits.sigmoid()
    positive = heat == 1
    losses = torch.where(
        positive,
        nn.functional.softplus(-logits) * (1 - chance) ** 2,
        nn.functional.softplus(logits) * chance**2 * (1 - heat) ** 4,
    )
    return losses.sum()


def _corners(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def _box_loss(boxes: Tensor, true: Tensor) -> Tensor:
    overlap = torch.diag(generalized_box_iou(_corners(boxes), _corners(true)))
    return 2.5 * (boxes - true).abs().sum(-1).mean() + (1 - overlap).mean()


def _mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy plus Dice, the mean over objects. logits: (k, h, w), compared in their own size."""
    small = nn.functional.adaptive_avg_pool2d(masks, (logits.shape[1], logits.shape[2])).flatten(1)
    logits = logits.flatten(1)
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, small, reduction="none").mean(1)
    chance = logits.sigmoid()
    dice = 1 - (2 * (chance * small).sum(1) + 1) / (chance.sum(1) + small.sum(1) + 1)
    return (2 * entropy + dice).mean()


def _noisy(boxes: Tensor) -> Tensor:
    size = boxes[:, 2:] * torch.exp(torch.randn_like(boxes[:, 2:]) * BOX_NOISE)
    return torch.cat([boxes[:, :2] + torch.randn_like(size) * boxes[:, 2:] * BOX_NOISE * 0.6, size.clamp(max=1.2)], -1)


def _decoder_loss(network: RfDetrForInstanceSegmentation, features: Tensor, start: Tensor, objects: Objects) -> Tensor:
    """The losses of the decoder's queries: those from the encoder's boxes, and those from the true ones with noise."""
    core: Any = network.model.model
    count = len(features)
    # Where there is no object, the second set has the same boxes as the first.
    noisy = start.clone()
    place = torch.cat([torch.arange(n) for n in torch.bincount(objects.picture, minlength=count).tolist()])
    noisy[objects.picture, place] = _noisy(objects.boxes)
    # The sets are decoded as if they were of different pictures, so that none of the first learns from the second.
    reference = refine_bboxes(torch.cat([start, noisy]), core.reference_point_embed.weight.expand(2 * count, -1, -1))
    tokens = features.flatten(2).transpose(1, 2).repeat(2, 1, 1)
    shape = [tuple(features.shape[-2:])]
    states = core.decoder(
        inputs_embeds=core.query_feat.weight.expand(2 * count, -1, -1),
        reference_points=reference,
        spatial_shapes=torch.tensor(shape),
        spatial_shapes_list=shape,
        level_start_index=torch.zeros(1, dtype=torch.long),
        valid_ratios=torch.ones(2 * count, 1, 2),
        encoder_hidden_states=tokens,
        encoder_attention_mask=torch.ones(tokens.shape[:2], dtype=torch.bool),
    ).intermediate_hidden_states
    logits, boxes = network.model.predict_class_and_boxes(states, reference)
    # Each object is in both sets.
    rows = torch.cat([_matched(logits[-1][:count], boxes[-1][:count], objects), place])
    pictures, labels = torch.cat([objects.picture, objects.picture + count]), objects.labels.repeat(2)
    target = torch.zeros_like(logits[-1])
    target[pictures, rows, labels] = 1.0
    loss = MASK_WEIGHT * _masks_loss(network, features, states[-1][pictures, rows], objects)
    for layer in range(len(logits)):
        loss = loss + CLASS_WEIGHT * _focal(logits[layer], target) / len(labels)
        loss = loss + BOX_WEIGHT * _box_loss(boxes[layer][pictures, rows], objects.boxes.repeat(2, 1))
    return loss


def _masks_loss(network: RfDetrForInstanceSegmentation, features: Tensor, states: Tensor, objects: Objects) -> Tensor:
    """The loss of the masks of the matched queries of both sets, (2 k, c), after the last layer."""
    side = tuple(n * network.config.backbone_config.patch_size // network.downsample_ratio for n in features.shape[-2:])
    spatial = nn.functional.interpolate(features, size=side, mode="bilinear", align_corners=False)
    for block in network.blocks:
        spatial = block(spatial)
    spatial = network.spatial_features_proj(spatial)
    queries = network.query_features_proj(network.query_features_block(states))
    picture = objects.picture.repeat(2).tolist()
    logits = torch.stack(
        [torch.einsum("c,chw->hw", query, spatial[i]) for query, i in zip(queries, picture, strict=True)]
    )
    return _mask_loss(logits + network.segmentation_bias, objects.masks.repeat(2, 1, 1))


@torch.no_grad()
def _matched(logits: Tensor, boxes: Tensor, objects: Objects) -> Tensor:
    """For each object the query of its picture that is nearest to it, one to one."""
    found = []
    for picture in range(len(logits)):
        mine = objects.picture == picture
        chance = logits[picture].sigmoid()[:, objects.labels[mine]]
        overlap = generalized_box_iou(_corners(boxes[picture]), _corners(objects.boxes[mine]))
        off = torch.cdist(boxes[picture], objects.boxes[mine], p=1)
        query, order = linear_sum_assignment((-2 * chance - 2 * overlap + 5 * off).numpy())
        found.append(torch.from_numpy(query)[torch.from_numpy(order).argsort()])
    return torch.cat(found)
