"""Instances: masks, colours, labels and the walk that reveals them, without a trained network."""

from __future__ import annotations

import json
from itertools import combinations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco

from momalisa_model.engines.instances_colours import PALETTE, colours_of, contrast, text_colour
from momalisa_model.engines.instances_masks import Candidate, FoundInstance, instances_of, mask_of
from momalisa_model.engines.instances_reveal import Reveal, progress
from momalisa_model.engines.instances_rle import decoded, encoded, instances_json

WIDTH, HEIGHT = 160, 120
FRAME = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
# How people see without one kind of cones. Source: G. Machado et al., A Physiologically-based Model for Simulation of
# Color Vision Deficiency, 2009, table 1, severity 1.
VISIONS = {
    "usual": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def candidate(x: int, y: int, w: int, h: int, score: float = 0.9, label: str = "cat") -> Candidate:
    """A rectangle, in a mask of half of the frame's size."""
    logits = np.full((HEIGHT // 2, WIDTH // 2), -5, np.float32)
    logits[y // 2 : (y + h) // 2, x // 2 : (x + w) // 2] = 5
    return Candidate(label, score, logits)


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture
def three() -> tuple[FoundInstance, ...]:
    found = [
        candidate(90, 60, 40, 40, 0.7, "dog"),
        candidate(10, 30, 40, 60, 0.95),
        candidate(60, 20, 30, 30, 0.8, "sofa"),
    ]
    return instances_of(found, FRAME, 0.5, 20)


def test_a_mask_in_run_lengths_is_the_mask_again() -> None:
    mask = np.random.default_rng(1).integers(0, 2, (37, 53), np.uint8)
    rle = encoded(mask)
    assert rle["size"] == [37, 53]
    assert np.array_equal(decoded(rle), mask)


def test_the_json_is_read_by_other_tools_of_coco(three: tuple[FoundInstance, ...]) -> None:
    """Downloads are for other programs: areas and boxes must be those that pycocotools computes from the masks."""
    document = json.loads(instances_json(WIDTH, HEIGHT, three))
    assert (document["width"], document["height"]) == (WIDTH, HEIGHT)
    assert [one["label"] for one in document["instances"]] == ["cat", "sofa", "dog"]
    for one in document["instances"]:
        assert coco.area(one["segmentation"]) == one["area"]
        assert coco.toBbox(one["segmentation"]).tolist() == one["box"]


def test_masks_have_the_size_of_the_frame_and_the_best_come_first(three: tuple[FoundInstance, ...]) -> None:
    assert [one.score for one in three] == [0.95, 0.8, 0.7]
    mask = mask_of(three[0])
    assert mask.shape == (HEIGHT, WIDTH)
    assert mask[60, 30] == 1
    assert mask[60, 70] == 0
    assert three[0].area == mask.sum()


def test_threshold_and_limit_decide_how_many_instances_there_are() -> None:
    found = [candidate(10 * n, 10, 8, 60, 0.3 + 0.05 * n) for n in range(12)]
    assert len(instances_of(found, FRAME, 0.5, 20)) == 8
    assert [round(one.score, 2) for one in instances_of(found, FRAME, 0.5, 2)] == [0.85, 0.8]


def test_an_object_that_is_found_twice_is_one_instance() -> None:
    twice = [candidate(10, 10, 60, 60, 0.9, "cat"), candidate(12, 10, 60, 60, 0.8, "dog")]
    assert [one.label for one in instances_of(twice, FRAME, 0.5, 20)] == ["cat"]


def test_an_empty_mask_is_no_instance() -> None:
    assert instances_of([candidate(0, 0, 0, 0)], FRAME, 0.5, 20) == ()


def test_coarse_masks_follow_the_edges_of_the_picture() -> None:
    """Networks answer in some dozen cells a side; enlarged alone, cut-outs would have corners of the background."""
    picture = np.full((400, 400, 3), (40, 90, 60), np.uint8)
    true = np.zeros((400, 400), np.uint8)
    for mask in (true, picture):
        cv2.fillPoly(mask, [np.array([(60, 60), (340, 110), (200, 330)])], (200, 60, 40) if mask is picture else 1)
    share = cv2.resize(true.astype(np.float32), (20, 20), interpolation=cv2.INTER_AREA).clip(0.05, 0.95)
    found = [Candidate("sail", 0.9, np.log(share / (1 - share)))]
    wrong = {
        name: int((mask_of(instances_of(found, under, 0.5, 20)[0]) != true).sum())
        for name, under in (("guided", picture), ("alone", np.zeros_like(picture)))
    }
    assert wrong["guided"] < 0.6 * wrong["alone"]


def test_fraction_0_is_the_picture_and_fraction_1_has_all_instances(
    picture: NDArray[np.uint8], three: tuple[FoundInstance, ...]
) -> None:
    reveal = Reveal.of(picture, three)
    assert np.array_equal(reveal.frame(0), picture)
    last = reveal.frame(1)
    for one, colour in zip(three, reveal.colours, strict=True):
        middle = one.box[1] + one.box[3] // 2, one.box[0] + one.box[2] // 2
        before = np.abs(picture[middle].astype(int) - colour).sum()
        assert np.abs(last[middle].astype(int) - colour).sum() < before


def test_instances_appear_one_after_the_other(picture: NDArray[np.uint8], three: tuple[FoundInstance, ...]) -> None:
    """In the middle of the walk, the first is complete, and nothing of the last is there yet."""
    shares = [progress(number, 3, 0.45) for number in range(3)]
    assert shares[0] == 1
    assert 0 < shares[1] < 1
    assert shares[2] == 0
    frame, untouched = Reveal.of(picture, three).frame(0.45), mask_of(three[2]).astype(bool)
    assert np.array_equal(frame[untouched], picture[untouched])
    assert not np.array_equal(frame[mask_of(three[0]).astype(bool)], picture[mask_of(three[0]).astype(bool)])


def test_a_frame_does_not_depend_on_those_that_were_rendered_before(
    picture: NDArray[np.uint8], three: tuple[FoundInstance, ...]
) -> None:
    reveal, other = Reveal.of(picture, three), Reveal.of(picture.copy(), three)
    in_order = [reveal.frame(fraction) for fraction in (0.2, 0.5, 0.9)]
    assert np.array_equal(other.frame(0.5), in_order[1])


def test_without_instances_all_frames_are_the_picture(picture: NDArray[np.uint8]) -> None:
    assert np.array_equal(Reveal.of(picture, ()).frame(1), picture)


@pytest.mark.parametrize("vision", VISIONS)
def test_colours_stay_apart_for_people_with_any_colour_vision(vision: str) -> None:
    """2.3 is the difference that people just notice."""
    seen = [_lab(colour, VISIONS[vision]) for colour in PALETTE]
    assert min(float(np.linalg.norm(one - other)) for one, other in combinations(seen, 2)) > 25


def test_text_on_each_colour_has_the_contrast_that_wcag_demands() -> None:
    assert min(contrast(text_colour(colour), colour) for colour in PALETTE) >= 4.5


def test_the_eleventh_instance_has_the_colour_of_one_far_away() -> None:
    boxes = [(20 * n, 0, 10, 10) for n in range(11)]
    colours = colours_of(boxes)
    assert len(set(colours[:10])) == 10
    assert colours[10] == colours[0]


def test_labels_are_in_the_frame_and_hide_no_other_label_if_there_is_room(picture: NDArray[np.uint8]) -> None:
    corners = [candidate(0, 0, 30, 30), candidate(130, 0, 30, 30), candidate(0, 90, 30, 30), candidate(130, 90, 30, 30)]
    same_place = [candidate(60, 40, 30, 30), candidate(60, 40, 14, 30, 0.8)]
    labels = Reveal.of(picture, instances_of(corners + same_place, FRAME, 0.5, 20)).labels
    areas = np.zeros((HEIGHT, WIDTH), int)
    for label in labels:
        height, width = label.plate.shape[:2]
        assert 0 <= label.x <= WIDTH - width
        assert 0 <= label.y <= HEIGHT - height
        areas[label.y : label.y + height, label.x : label.x + width] += 1
    assert len(labels) == 6
    assert areas.max() == 1


def test_a_long_label_is_shortened_to_the_frame(picture: NDArray[np.uint8]) -> None:
    long = instances_of([candidate(0, 0, 40, 40, label="a very long name of an object " * 5)], FRAME, 0.5, 20)
    assert Reveal.of(picture, long).labels[0].plate.shape[1] <= WIDTH


def _lab(colour: tuple[int, int, int], vision: list[list[float]]) -> NDArray[np.float64]:
    """A colour in CIELAB as it is seen. Source: IEC 61966-2-1 and CIE 15, with the white of sRGB."""
    encoded_ = np.array(colour) / 255
    linear = np.where(encoded_ <= 0.04045, encoded_ / 12.92, ((encoded_ + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = matrix @ np.clip(np.array(vision) @ linear, 0, 1) / matrix.sum(1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
