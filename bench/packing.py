"""Packing frames as PNG files, and how busy they leave the device: this service compared with Pillow at level 1.

    python bench/packing.py [--size 512] [--micro-batch 8]

The first table is CPU time of one thread (targets: at least 2 times as fast, at most 1.3 times the bytes, decoding not
slower). The second replaces the model by a sleep, and prints the share of the time in which the device "renders"
(target: at least .95 on two cores where packing takes at most half as long as rendering).
"""

from __future__ import annotations

import argparse
import io
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter, sleep, thread_time
from types import SimpleNamespace

import anyio
import numpy as np
from PIL import Image

from momalisa_model.device_queue import DeviceQueue
from momalisa_model.engines.engine import Frame
from momalisa_model.metrics import Metrics
from momalisa_model.png import encode_png
from momalisa_model.streaming import Shard
from momalisa_model.wire import DeviceOptions, FrameLine

ROUNDS = 7
CALLERS, SHARDS, BATCHES = 3, 4, 2
SHEET = Path(__file__).parents[1] / "docs" / "atelier.png"


def natural(size: int, grain: float) -> np.ndarray:
    """A picture with the spectrum of photographs (amplitude ~ frequency ** -1.2), correlated colours, and grain."""
    dice = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    shared, channels = dice.normal(size=(size, size)), []
    for _ in range(3):
        noise = np.fft.rfft2(0.9 * shared + 0.4 * dice.normal(size=(size, size)))
        channel = np.fft.irfft2(noise / frequency**1.2, s=(size, size))
        channels.append(128 + 45 * channel / channel.std() + grain * dice.normal(size=(size, size)))
    return np.stack(channels, -1).clip(0, 255).round().astype(np.uint8)


def pillow(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def decode(png: bytes) -> None:
    Image.open(io.BytesIO(png)).load()


def cpu_ms(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(ROUNDS):
        began = thread_time()
        work()
        taken.append(thread_time() - began)
    return min(taken) * 1000


def compare(name: str, picture: np.ndarray) -> None:
    ours, theirs = encode_png(picture), pillow(picture)
    pack, pack_pillow = cpu_ms(lambda: encode_png(picture)), cpu_ms(lambda: pillow(picture))
    read, read_pillow = cpu_ms(lambda: decode(ours)), cpu_ms(lambda: decode(theirs))
    print(
        f"{name:28} {pack:6.2f} ms   {pack_pillow / pack:5.2f} x as fast   {len(ours) / len(theirs):5.2f} x the bytes"
        f"   decoded {read_pillow / read:5.2f} x as fast"
    )


def wall_s(picture: np.ndarray) -> float:
    """Seconds for which a frame is packed, from the picture to JSON, as long as nothing else of this process runs."""
    began = perf_counter()
    for _ in range(10 * ROUNDS):
        line = FrameLine(fraction=0.5, png=b64encode(encode_png(picture)).decode(), seconds=1.0, marked=False)
        line.model_dump_json().encode()
    return (perf_counter() - began) / (10 * ROUNDS)


class SleepingDevice:
    """Stands for an engine: it sleeps instead of rendering, and its frames are packed by `pack`."""

    def __init__(self, picture: np.ndarray, micro_batch: int, batch_s: float, pack: Callable[[np.ndarray], bytes]):
        self._frames = [Frame(0.5, b"", batch_s / micro_batch, False)] * micro_batch
        self._picture, self._batch_s, self._pack = picture, batch_s, pack
        self.busy_s = self.ended = 0.0
        self.prepares_beside = True

    def prepare(self, *_: object) -> SimpleNamespace:
        return SimpleNamespace(warnings=())

    def batches(self, *_: object) -> Iterator[Callable[[], Iterator[Frame]]]:
        for _batch in range(BATCHES):
            began = perf_counter()
            sleep(self._batch_s)
            self.ended = perf_counter()
            self.busy_s += self.ended - began
            yield self._finish

    def _finish(self) -> Iterator[Frame]:
        for frame in self._frames:
            yield Frame(frame.fraction, self._pack(self._picture), frame.seconds, False)


class InTheLane(SleepingDevice):
    """Packs before the next micro-batch is rendered, as a service without packing threads does."""

    def batches(self, *_: object) -> Iterator[Callable[[], Iterator[Frame]]]:
        for finish in super().batches():
            frames = list(finish())
            yield lambda frames=frames: iter(frames)


async def utilisation(device: SleepingDevice) -> float:
    """The share of the time in which the device is busy while callers send one shard after another."""
    queue = DeviceQueue(CALLERS, Metrics(), lambda: None)
    card = SimpleNamespace(model="sleep", revision="0", device=DeviceOptions())
    loaded = SimpleNamespace(card=card, fingerprint="0")
    model = SimpleNamespace(engine=device, answer=loaded, card=card)
    shard = Shard(SimpleNamespace(extras=False), model, Metrics())

    async def caller() -> None:
        for _ in range(SHARDS):
            await queue.run(shard.render, lambda line: line.model_dump_json().encode(), shard.prepare)

    began = perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(CALLERS):
            tasks.start_soon(caller)
    return device.busy_s / (device.ended - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--micro-batch", type=int, default=8)
    chosen = parser.parse_args()
    size = chosen.size
    tile = Image.open(SHEET).convert("RGB").crop((300, 300, 428, 428))
    print(f"packing of {size} x {size} pixels")
    compare("like a photograph", natural(size, grain=0))
    compare("like a photograph, grain", natural(size, grain=2))
    compare("the atelier's, enlarged", np.asarray(tile.resize((size, size), Image.Resampling.BICUBIC)))
    compare("the atelier's, 128 pixels", np.asarray(tile))
    picture = natural(size, grain=2)
    pack_s = wall_s(picture)
    print("\nrendering / packing   device busy   with packing in the lane")
    for ratio in (4, 2, 1):
        batch_s = ratio * pack_s * chosen.micro_batch
        made = [kind(picture, chosen.micro_batch, batch_s, encode_png) for kind in (SleepingDevice, InTheLane)]
        beside, inside = (anyio.run(utilisation, device) for device in made)
        print(f"{ratio:19}   {beside:11.3f}   {inside:24.3f}")


if __name__ == "__main__":
    main()
