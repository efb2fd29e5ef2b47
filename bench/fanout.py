"""A walk through the API and two replicas compared with direct calls of the sampler: same frames, same total threads.

`python bench/fanout.py`. Direct: one process with two threads renders every frame. Fan-out: two replicas with one
thread each behind the API, over HTTP, until the last frame is stored in the bucket. Both are measured in pairs.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from momalisa_api.walks.spec import WalkSpec
from momalisa_model.lifecycle import LoadedModel, load_model
from momalisa_model.settings import Settings
from momalisa_model.wire import Recipe
from tests.support.deployment import WEIGHTS, Deployment, deployed, wait_until

PAIRS = 5
START, END = "a red sunburst on yellow", "a blue spiral on white"


def direct(ready: LoadedModel, spec: dict[str, Any]) -> float:
    """Seconds for all frames of a walk of one leg, with the sampler only."""
    [leg] = WalkSpec.model_validate(spec).recipes(spec["seed"])
    recipe = leg.model_dump()
    recipe["num_inference_steps"] = recipe.pop("steps")
    parsed = Recipe.model_validate(recipe)
    fractions = [index / (spec["frames"] - 1) for index in range(spec["frames"])]
    began = time.perf_counter()
    list(ready.sampler.frames(parsed, ready.sampler.encode(parsed), fractions))
    return time.perf_counter() - began


def through_the_api(deployment: Deployment, frames: int, seed: int) -> tuple[float, dict[str, Any]]:
    """Seconds from the request until the last frame is stored, and the walk's spec."""
    began = time.perf_counter()
    walk = deployment.request_walk(start=START, end=END, frames=frames, seed=seed)
    wait_until(lambda: len(deployment.read(walk)["frames_ready"]) == frames)
    took_s = time.perf_counter() - began
    spec: dict[str, Any] = deployment.ended(walk)["spec"]
    return took_s, spec


def main() -> None:
    ready = load_model(Settings(model_id=str(WEIGHTS), threads=2))
    micro_batch = ready.answer.card.micro_batch
    frames = 8 * micro_batch
    print(f"{frames} frames in 8 shards of {micro_batch}; {PAIRS} pairs")
    ratios = []
    with tempfile.TemporaryDirectory() as folder, deployed(Path(folder), proxied=False) as deployment:
        through_the_api(deployment, frames, seed=0)
        for pair in range(1, PAIRS + 1):
            api_s, spec = through_the_api(deployment, frames, seed=pair)
            direct_s = direct(ready, spec)
            ratios.append(api_s / direct_s)
            print(f"direct {direct_s:6.2f} s   through the api {api_s:6.2f} s   {ratios[-1]:.2f}")
    print(f"median {statistics.median(ratios):.2f} (target: at most 1.10)")


if __name__ == "__main__":
    main()
