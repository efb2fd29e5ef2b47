"""Walks into a picture: seconds and memory of a loop, from the depth map to the last PNG file.

    python bench/parallax.py [--size 1024] [--frames 49]

The depth map is a painted one: the network is not measured. Frames are made by two threads, as in a replica, and what
OpenCV does in threads of its own is left to it. Target: at most 15 s for 49 frames of 1024 pixels on two cores. What
the machine does beside it counts, so the second figure is a ratio: a frame against the packing of its PNG file alone.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "model-service"))

from atelier.scenes import paint_scene
from momalisa_model.engines.parallax_motion import MOTIONS, view_at
from momalisa_model.engines.parallax_scene import build_scene, cutout_png, depth_png
from momalisa_model.engines.parallax_warp import seen
from momalisa_model.png import encode_png

MAP_SIDE, PAINTED_SIDE = 160, 320
THREADS = 2


def resident_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="of the picture, in pixels")
    parser.add_argument("--frames", type=int, default=49)
    options = parser.parse_args()
    painted = paint_scene(np.random.default_rng(8), PAINTED_SIDE)
    picture = np.asarray(Image.fromarray(painted.picture).resize((options.size, options.size)))
    depth = np.asarray(Image.fromarray(painted.nearness).resize((MAP_SIDE, MAP_SIDE), Image.Resampling.BOX))
    before = resident_mib()
    began, worked = perf_counter(), process_time()
    scene = build_scene(picture, depth, 1.0)
    prepared, prepared_cpu = perf_counter() - began, process_time() - worked
    print(f"prepared      {prepared:6.2f} s  {prepared_cpu:6.2f} s of CPU  {len(scene.layers)} layers")
    print(f"memory        {resident_mib() - before:6.0f} MiB more at most than before")
    began = perf_counter()
    files = len(depth_png(scene)) + len(cutout_png(scene))
    print(f"extras        {perf_counter() - began:6.2f} s  {files / 1e6:.1f} MB")
    packing = statistics.median(seconds(lambda: encode_png(picture)) for _ in range(5))
    for motion in MOTIONS:
        views = [view_at(motion, 1.0, i / (options.frames - 1)) for i in range(options.frames)]
        began, worked = perf_counter(), process_time()
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(lambda view: len(encode_png(seen(scene.layers, view))), views))
        loop, cpu = perf_counter() - began, process_time() - worked
        print(
            f"{motion:<13} {loop:6.2f} s  {cpu:6.2f} s of CPU  {loop + prepared:6.2f} s with the preparation"
            f"  a frame is {cpu / options.frames / packing:.1f} times its packing"
        )
    print(f"memory        {resident_mib() - before:6.0f} MiB more at most than before")


def seconds(work: Callable[[], object]) -> float:
    began = process_time()
    work()
    return process_time() - began


if __name__ == "__main__":
    main()
