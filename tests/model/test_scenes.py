"""The scenes on which networks for depth and instances are trained."""

import numpy as np
import pytest
import torch

from atelier.instance_loss import instance_loss
from atelier.scenes import LABELS, paint_scene
from atelier.train_depth import normalised, right_order
from atelier.train_instances import average_precision, build_instance_network, targets_of

SIZE = 48


def scene(number: int, size: int = SIZE):
    return paint_scene(np.random.default_rng(number), size)


def test_a_scene_is_decided_by_its_number():
    """A training that continues paints what it would have painted."""
    first, again = scene(1), scene(1)
    assert np.array_equal(first.picture, again.picture)
    assert not np.array_equal(first.picture, scene(2).picture)


@pytest.mark.parametrize("number", range(5))
def test_every_object_has_a_label_and_visible_pixels(number: int):
    """Hidden objects are nothing that a network could find."""
    found = scene(number)
    assert found.picture.shape == (SIZE, SIZE, 3)
    assert set(np.unique(found.instances)) <= set(range(len(found.labels) + 1))
    assert all((found.instances == index).any() for index in range(1, len(found.labels) + 1))
    assert all(0 <= label < len(LABELS) for label in found.labels)
    assert 0 <= found.nearness.min() <= found.nearness.max() <= 1


def test_the_figures_of_a_perfect_answer_are_one_and_of_a_wrong_one_are_not():
    """Otherwise the figures in the model's card would mean nothing."""
    found = next(each for each in map(scene, range(20)) if len(each.labels) > 1)
    near = torch.from_numpy(found.nearness)
    assert right_order(near, near) == 1
    assert right_order(-near, near) == 0
    truth = targets_of(found)
    scores = torch.ones(len(found.labels))
    assert average_precision([(scores, truth["class_labels"], truth["masks"])], [truth]) == 1
    assert average_precision([(scores, truth["class_labels"], ~truth["masks"])], [truth]) == 0


def test_the_loss_of_instances_falls_on_scenes_that_are_repeated():
    """It consists of parts for classes, boxes and masks in several places; a wrong target in one would stop it."""
    torch.manual_seed(0)
    scenes = [each for each in map(scene, range(20)) if len(each.labels) > 1][:2]
    network = build_instance_network().train()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    pictures = normalised(torch.stack([torch.from_numpy(each.picture.copy()) for each in scenes]))
    losses = []
    for _ in range(10):
        loss = instance_loss(network, pictures, [targets_of(each) for each in scenes])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]
    idle = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert not [name for name in idle if "mask_token" not in name]
