"""Peak memory of taking a picture apart, for uploads of 1 to 40 megapixels: it must not grow with the picture.

`python bench/instances_memory.py`. Each step of MoMALisa runs in a process of its own, as it does for a user: the
decoder of the upload, the worker that scales the picture, and the replica that finds about 20 instances, draws 13
frames and cuts the instances out. Beside it, and in a process of its own too, the same network without bounds: on the
picture as uploaded, with the stock post-processing of transformers, which enlarges all masks at once. The network has
random weights; memory depends on its size alone.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "api-service"), str(ROOT / "model-service")]

MEGAPIXELS = (1, 4, 12, 24, 40)
SIDES = (512, 1024, 2048)
USUAL_SIDE = 1024
INSTANCES, FRAMES = 20, 13
INPUT_SIDE = 384
MB = 1024 * 1024


def network() -> Any:
    """An RF-DETR-Seg as small as possible, whose queries are all found; their masks differ."""
    import torch
    from transformers import RfDetrForInstanceSegmentation

    from tests.support.instance_networks import small_rf_detr_config

    torch.manual_seed(0)
    torch.set_num_threads(1)
    made = RfDetrForInstanceSegmentation(small_rf_detr_config(INSTANCES, INPUT_SIDE)).eval()
    torch.nn.init.constant_(made.model.class_embed.bias, 3.0)
    return made


def paint(file: Path, megapixels: float) -> None:
    """A JPEG with grain and shapes, 4 to 3."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    small = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(small).resize((width, width * 3 // 4), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)


def scale(stored: Path, target: Path, longer_side: int) -> None:
    """What a worker does for a shard: the stored picture in the size of the walk's frames."""
    from momalisa_api.work.stop_pictures import scaled

    with Image.open(stored) as picture:
        width, height = picture.size
    factor = longer_side / max(width, height)
    size = (round(width * factor / 2) * 2, round(height * factor / 2) * 2)
    target.write_bytes(scaled(stored.read_bytes(), (0, 0, width, height), size))


def replica(file: Path) -> None:
    """What a replica does with a recipe of the kind `apart`."""
    from momalisa_model.engines.instances import InstancesEngine
    from momalisa_model.engines.instances_detect import Detector, Input
    from momalisa_model.recipes import ApartRecipe
    from momalisa_model.wire import RenderRequest

    key = "0" * 64
    pixels = np.asarray(Image.open(file))
    engine = InstancesEngine(Detector(network(), Input.of({"size": INPUT_SIDE}, 8)))
    height, width = pixels.shape[:2]
    of_frame = {"width": width, "height": height, "model": "m", "revision": "r"}
    recipe = ApartRecipe(kind="apart", picture=key, threshold=0.05, most=INSTANCES, **of_frame)
    request = RenderRequest(recipe=recipe, fractions=[i / (FRAMES - 1) for i in range(FRAMES)], extras=True)
    prepared = engine.prepare(request, {key: pixels}, lambda: False)
    files = sum(1 for _ in engine.extras(prepared))
    frames = sum(len(list(finish())) for finish in engine.batches(request, prepared, {}, lambda: False))
    print(json.dumps({"instances": files - 1, "frames": frames}))


def unbounded(file: Path) -> None:
    """The same network on the upload itself, with the stock post-processing."""
    import torch

    from momalisa_model.engines.instances_detect import Input
    from tests.support.instance_networks import stock_instances

    pixels = np.asarray(Image.open(file).convert("RGB"))
    with torch.inference_mode():
        answer = network()(Input.of({"size": INPUT_SIDE}, 8).tensor(pixels))
        found = stock_instances(answer, 0.05, pixels.shape[:2])
    print(json.dumps({"instances": len(found)}))


def peak_of(*command: str) -> tuple[float, dict[str, Any]]:
    """Peak resident memory of a command in MB, and what it prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path[:3]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    kilobytes = usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)
    return kilobytes * 1024 / MB, json.loads(said or b"{}")


def idle() -> None:
    """A replica that has loaded the network."""
    from momalisa_model.engines.instances_detect import Detector, Input

    Detector(network(), Input.of({"size": INPUT_SIDE}, 8))


def main() -> None:
    base, _ = peak_of(__file__, "idle")
    print(f"a replica that does nothing: {base:.0f} MB. Below, peak MB.")
    print("megapixels  decoder  worker  replica  largest  unbounded  ratio")
    largest, beyond = [], []
    with tempfile.TemporaryDirectory() as name:
        upload, stored, scaled_file = (str(Path(name) / file) for file in ("upload.jpg", "stored.png", "scaled.png"))
        for megapixels in MEGAPIXELS:
            subprocess.run([sys.executable, __file__, "paint", upload, str(megapixels)], check=True)
            decoder, said = peak_of("-m", "momalisa_api.pictures.decoder", upload, stored)
            assert "problem" not in said, said
            worker, _ = peak_of(__file__, "scale", stored, scaled_file, str(USUAL_SIDE))
            drawn, said = peak_of(__file__, "replica", scaled_file)
            free, other = peak_of(__file__, "unbounded", upload)
            assert 15 <= said["instances"] <= other["instances"] == INSTANCES, (said, other)
            largest.append(max(decoder, worker, drawn))
            beyond.append((drawn - base, free - base))
            parts = f"{decoder:7.0f}  {worker:6.0f}  {drawn:7.0f}  {largest[-1]:7.0f}  {free:9.0f}"
            print(f"{megapixels:10}  {parts}  {largest[-1] / free:5.2f}", flush=True)
        print(f"largest process at {MEGAPIXELS[-1]} megapixels / at {MEGAPIXELS[0]}: {largest[-1] / largest[0]:.2f}")
        ours, free = beyond[-1]
        print(f"beyond an idle replica at {MEGAPIXELS[-1]} megapixels: {ours:.0f} MB, unbounded {free:.0f} MB")
        for side in SIDES:
            peak_of(__file__, "scale", stored, scaled_file, str(side))
            drawn, _ = peak_of(__file__, "replica", scaled_file)
            print(f"frames of {side} pixels: {drawn - base:.0f} MB beyond an idle replica", flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            main()
        case ["paint", file, megapixels]:
            paint(Path(file), float(megapixels))
        case ["scale", stored, target, side]:
            scale(Path(stored), Path(target), int(side))
        case ["idle"]:
            idle()
        case ["replica", file]:
            replica(Path(file))
        case ["unbounded", file]:
            unbounded(Path(file))
