"""The scenes on which networks for depth and instances are trained."""

from pathlib import Path

import numpy as np
import pytest
import torch

from atelier.scenes import LABELS, paint_scene
from atelier.train_depth import DepthTraining, build_depth_network, copy_resized, normalised, right_order
from atelier.train_instances import (
    InstanceTraining,
    average_precision,
    build_instance_network,
    calibrate,
    targets_of,
)

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


@pytest.mark.parametrize("kind", ["depth", "instances"])
def test_a_network_learns_a_batch_that_is_repeated(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A wrong target, or a last layer that is silent, would stop it."""
    training = InstanceTraining(tmp_path, 9, 4) if kind == "instances" else DepthTraining(tmp_path, 9, 4, 64, None)
    batch = training._batch()
    monkeypatch.setattr(training, "_batch", lambda: batch)
    monkeypatch.setattr(training, "rate", lambda: 1e-3)
    losses = []
    for _ in range(10):
        losses.append(training.loss().item())
        training.advance()
    assert losses[-1] < 0.8 * losses[0]


def test_a_network_for_depth_begins_from_one_for_smaller_pictures():
    """Only its positions are on another grid."""
    small, large = build_depth_network(64), build_depth_network(96)
    copy_resized(small.state_dict(), large)
    for name, weight in large.named_parameters():
        theirs = small.get_parameter(name)
        assert torch.equal(weight, theirs) or "position" in name
    assert large.dpt.embeddings.position_embeddings.shape[1] == 1 + 6 * 6


def test_scores_are_calibrated_to_the_number_of_objects():
    """At the usual threshold of a half, people should see about as many instances as there are objects."""
    network = build_instance_network().eval()
    scenes = [scene(number, 128) for number in range(6)]
    calibrate(network, scenes)
    with torch.no_grad():
        logits = [network(normalised(torch.from_numpy(each.picture)[None])).logits for each in scenes]
    assert sum(int((one.amax(-1) >= 0).sum()) for one in logits) == sum(len(each.labels) for each in scenes)


@pytest.mark.parametrize("number", range(12))
def test_of_the_ground_what_is_lower_is_never_farther(number: int):
    """A depth that no pixel shows would teach a network to guess."""
    found = scene(number)
    ground = np.where(found.instances == 0, found.nearness, np.nan)
    middle = ground[:, SIZE // 2]
    assert (np.diff(middle[~np.isnan(middle)]) >= -1e-6).all()
