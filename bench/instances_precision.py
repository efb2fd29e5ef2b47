"""How well a network finds the objects of painted scenes that it was not trained on.

`python bench/instances_precision.py [FOLDER]`: a network in transformers' format; without one, the embedded network.
Prints the mask AP at an IoU of 0.5 through the engine that renders walks, and what the usual threshold finds.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

SERVICE = Path(__file__).parents[1] / "model-service"
sys.path.insert(0, str(SERVICE))

from atelier.scenes import LABELS, paint_scene
from atelier.train_instances import average_precision, targets_of
from momalisa_model.engines.instances import load_detector
from momalisa_model.engines.instances_masks import instances_of, mask_of
from momalisa_model.network_files import find_network

# As in the training's own figure: none of these scenes is in a training.
HELD_OUT = 3
USUAL_THRESHOLD = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default=str(SERVICE / "atelier" / "instances"))
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--size", type=int, default=128, help="of the scenes, in pixels")
    options = parser.parse_args()
    if not Path(options.folder).is_dir():
        print(f"{options.folder} does not exist: nothing to measure")
        return
    torch.set_num_threads(1)
    detector = load_detector(find_network(options.folder, None, lambda _: None), torch.device("cpu"))
    found, truth, usual = [], [], 0
    for number in range(options.scenes):
        scene = paint_scene(np.random.default_rng((HELD_OUT, number)), options.size)
        instances = instances_of(detector.candidates(scene.picture), scene.picture, 0.0, 50)
        masks = np.stack([mask_of(one) for one in instances]).astype(bool)
        labels = torch.tensor([LABELS.index(one.label) for one in instances])
        found.append((torch.tensor([one.score for one in instances]), labels, torch.from_numpy(masks)))
        truth.append(targets_of(scene))
        usual += sum(one.score >= USUAL_THRESHOLD for one in instances)
    objects = sum(len(one["class_labels"]) for one in truth)
    print(f"mask AP50 {average_precision(found, truth):.3f} over {options.scenes} scenes with {objects} objects")
    print(f"instances with a score of at least {USUAL_THRESHOLD}: {usual / objects:.2f} of the number of objects")


if __name__ == "__main__":
    main()
