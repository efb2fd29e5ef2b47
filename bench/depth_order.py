"""Networks for depth: the share of pixel pairs of painted scenes that a network puts into the right order.

    python bench/depth_order.py [--model FOLDER] [--scenes 64] [--size 256]

The scenes are held out: no network was trained on them. Pairs whose nearness differs by less than .03 do not count.
"map" is the network's answer, "refined" the map that layers are made of, whose edges are those of the picture, and
"nothing" an answer that knows no more than that what is lower in the picture is nearer. Target: .95.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "model-service"))

from atelier.scenes import Scene, paint_scene
from atelier.train_depth import right_order
from momalisa_model.engines.parallax_depth import load_depth_network
from momalisa_model.engines.parallax_scene import build_scene

EMBEDDED = Path(__file__).parents[1] / "model-service" / "atelier" / "depth"
# Trainings begin their seeds with 1 to 3.
HELD_OUT = 7


def order(found: np.ndarray, scene: Scene) -> float:
    size = scene.nearness.shape[::-1]
    return right_order(torch.from_numpy(cv2.resize(found, size)), torch.from_numpy(scene.nearness))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=EMBEDDED, help="a folder in transformers' format")
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--size", type=int, default=256, help="of the scenes, in pixels")
    options = parser.parse_args()
    if not options.model.is_dir():
        print("No embedded network for depth. Name one with --model.")
        return
    network = load_depth_network(options.model, torch.device("cpu"))
    orders = []
    for number in range(options.scenes):
        scene = paint_scene(np.random.default_rng((HELD_OUT, number)), options.size)
        depth = network.nearness(scene.picture)
        lower = np.linspace(0, 1, options.size, dtype=np.float32)[:, None].repeat(options.size, 1)
        refined = build_scene(scene.picture, depth, 1.0).nearness
        orders.append([order(one, scene) for one in (depth, refined, lower)])
    for name, column in zip(("map", "refined", "nothing"), np.array(orders).T, strict=True):
        print(f"{name:<9} {column.mean():.4f} in the mean   {np.quantile(column, 0.1):.4f} in the worst tenth")


if __name__ == "__main__":
    main()
