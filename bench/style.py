"""The style engine: how evenly a picture goes to a style, and how much a clip in a style flickers.

    python bench/style.py [--pictures 3] [--threads 1]

Walks: evenness, largest step by mean, and sharpness of 9 frames, in the median over painted pictures and styles. The
engine's way is compared with a cross-fade between the same ends, and with the style vector alone.

Flicker: the difference of neighbouring frames along the source's optical flow (warp error), by that of a single pass
at one place, for three clips: a camera that moves over a painted picture, the same with the noise of a sensor, and
objects that move across it in ways of their own. Pixels that were hidden in the frame before do not count. `source` is
the clip itself. Sharpness is the mean difference of neighbouring pixels, by that of a single pass.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "model-service")]

import cv2
import numpy as np
import torch
from PIL import Image

from atelier.scenes import Scene, paint_scene
from atelier.styles import style_picture
from momalisa_api.walks.smoothness import Meter, Smoothness
from momalisa_model.cancellation import never
from momalisa_model.engines.style_network import PLACES, StyleNetwork, weight_names
from momalisa_model.engines.style_pictures import StylePredictor
from momalisa_model.engines.style_walk import StyleWalk
from momalisa_model.engines.style_weights import PAINTER, PREDICTOR, network_file, read_weights

FRAMES, CLIP_FRAMES, SIDE, NOISE = 9, 6, 192, 4
# Where the source differs by more from the moved frame before, in levels, it was hidden there.
UNSEEN = 12
STYLES = ("waves", "pastel", "mosaic")
EVERY_PLACE = [(down, right) for down in range(4) for right in range(4)]

Picture = np.ndarray


def smoothness(frames: Sequence[Picture]) -> Smoothness:
    meter = Meter(len(frames))
    for frame in frames:
        meter.add(Image.fromarray((frame * 255 + 0.5).clip(0, 255).astype(np.uint8)))
    return meter.finish()


def walks(network: StyleNetwork, predictor: StylePredictor, pictures: Sequence[Picture]) -> None:
    found: dict[str, list[Smoothness]] = {"cross-fade": [], "style vector alone": [], "engine": []}
    along = np.linspace(0, 1, FRAMES).tolist()
    for picture in pictures:
        own, plain = predictor.vector(picture), picture.astype(np.float32) / 255
        for name in STYLES:
            style = predictor.vector(np.array(style_picture(name)))
            end = network.paint(picture, style).numpy()
            vectors = [np.float32(1 - t) * own + np.float32(t) * style for t in along[1:]]
            walk = StyleWalk(network, own, style, picture, never)
            found["cross-fade"].append(smoothness([plain * (1 - t) + end * t for t in along]))
            alone = [plain, *[network.paint(picture, vector).numpy() for vector in vectors]]
            found["style vector alone"].append(smoothness(alone))
            found["engine"].append(smoothness([walk.at(t, never).numpy() for t in along]))
    print("walk                 evenness   largest/mean   sharpness")
    for name, some in found.items():
        fields = [
            statistics.median(getattr(one, field) for one in some) for field in ("evenness", "largest", "sharpness")
        ]
        print(f"{name:18}   {fields[0]:8.2f}   {fields[1]:12.2f}   {fields[2]:9.2f}", flush=True)


def clip(scene: Scene, noise: float = 0, apart: float = 0) -> list[Picture]:
    """A camera that moves by parts of pixels over a scene. apart: pixels by which its objects move on in each frame."""
    dice = np.random.default_rng(1)
    large = cv2.resize(scene.picture, (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_CUBIC)
    numbers = cv2.resize(scene.instances, (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_NEAREST)
    ground = cv2.inpaint(large, (numbers > 0).astype(np.uint8), 3, cv2.INPAINT_TELEA) if apart else large
    ways = {number: (dice.normal(size=2) * apart).tolist() for number in range(1, len(scene.labels) + 1)}
    frames = []
    for i in range(CLIP_FRAMES):
        frame = _moved(ground, i, (0, 0)).astype(np.float32)
        for number, way in ways.items() if apart else ():
            share = _moved((numbers == number).astype(np.float32), i, way)[..., None].clip(0, 1)
            frame = frame * (1 - share) + _moved(large, i, way) * share
        frames.append((frame + dice.normal(0, noise, frame.shape)).round().clip(0, 255).astype(np.uint8))
    return frames


def _moved(picture: Picture, frame: int, way: Sequence[float]) -> Picture:
    move = np.float32([[1, 0, -20 + (way[0] - 3.3) * frame], [0, 1, -30 + (way[1] - 1.7) * frame]])
    return cv2.warpAffine(picture, move, (SIDE, SIDE), flags=cv2.INTER_CUBIC)


def warp_error(frames: Sequence[Picture], flows: Sequence[Picture], seen: Sequence[Picture]) -> float:
    """The mean difference of each frame and the one before it, which follows the flow, where that was seen."""
    pairs = zip(_followed(frames, flows), frames[1:], seen, strict=True)
    return float(np.mean([np.abs(moved - after)[where].mean() for moved, after, where in pairs]))


def _followed(frames: Sequence[Picture], flows: Sequence[Picture]) -> list[Picture]:
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    pairs = zip(frames, flows, strict=False)
    return [cv2.remap(f.astype(np.float32), x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC) for f, flow in pairs]


def seen_before(frames: Sequence[Picture], flows: Sequence[Picture]) -> list[Picture]:
    """For each frame but the first, which of its pixels were to be seen in the one before; none near the border."""
    inner = np.zeros((SIDE, SIDE), bool)
    inner[12:-12, 12:-12] = True
    pairs = zip(_followed(frames, flows), frames[1:], strict=True)
    return [inner & (np.abs(moved - after).max(-1) < UNSEEN) for moved, after in pairs]


def sharpness(frame: Picture) -> float:
    return float(np.abs(np.diff(frame, axis=1)).mean())


def flicker(network: StyleNetwork, predictor: StylePredictor, scenes: Sequence[Scene]) -> None:
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    print("clip      way               flicker   sharpness")
    for title, noise, apart in (("clean", 0, 0), ("noisy", NOISE, 0), ("objects", 0, 2.5)):
        rows: dict[str, list[tuple[float, float]]] = {}
        for scene in scenes:
            # The flow of the clip without noise is nearer to the real one.
            clean = clip(scene, 0, apart)
            greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clean]
            flows = [finder.calc(after, before, None) for before, after in pairwise(greys)]
            source, where = clip(scene, noise, apart), seen_before(clean, flows)
            for name in STYLES:
                style = predictor.vector(np.array(style_picture(name)))
                ways = {"one place": ((0, 0),), "four places": PLACES, "all 16": EVERY_PLACE}
                seen = {way: _painted(network, style, source, places) for way, places in ways.items()}
                seen["smoothed source"] = _painted(
                    network, style, [cv2.bilateralFilter(f, 5, 20, 2) for f in source], ((0, 0),)
                )
                seen["source"] = [frame.astype(np.float32) / 255 for frame in source]
                base = warp_error(seen["one place"], flows, where), sharpness(seen["one place"][0])
                for way, frames in seen.items():
                    ratio = warp_error(frames, flows, where) / base[0], sharpness(frames[0]) / base[1]
                    rows.setdefault(way, []).append(ratio)
        for way, ratios in rows.items():
            medians = [statistics.median(column) for column in zip(*ratios, strict=True)]
            print(f"{title:7}   {way:15}   {medians[0]:5.2f}   {medians[1]:9.2f}", flush=True)


def _painted(
    network: StyleNetwork, style: Picture, frames: Sequence[Picture], places: Sequence[tuple[int, int]]
) -> list[Picture]:
    return [network.paint(frame, style, places=places).numpy() for frame in frames]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    network = StyleNetwork(read_weights(network_file(PAINTER), list(weight_names())), torch.device("cpu"))
    predictor = StylePredictor(network_file(PREDICTOR), given.threads)
    scenes = [paint_scene(np.random.default_rng(seed), SIDE) for seed in range(given.pictures)]
    walks(network, predictor, [scene.picture for scene in scenes])
    flicker(network, predictor, scenes)


if __name__ == "__main__":
    main()
