"""Speed, quality and size of GIFs compared with diffusers' `export_to_gif`; and what all films of a walk cost.

    python bench/films.py [pairs]

Every line of the first table is paired: both encoders get the same 48 frames (25, there and back) in turn, and the
ratio is the median over the pairs. `export_to_gif` starts from decoded pictures, the API's GIF from PNG bytes. PSNR is
over RGB, between the frames and the GIFs as Pillow decodes them. The last kind has no noise, unlike the output of any
decoder: both GIFs look the same then (50 dB is less than one step of 255).

The second table makes all films of one walk at 512 px from a bucket, in one pass and one film after the other.
"""

import io
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

sys.path.insert(0, str(Path(__file__).parents[1]))

from momalisa_api.films.films import FilmOptions
from momalisa_api.films.make import make_films
from momalisa_api.films.mp4 import FULL, PREVIEW, Video
from momalisa_api.films.outputs import Gif, Still, save_poster, save_shared_poster
from momalisa_api.store.schema import opened
from momalisa_api.walks.smoothness import Meter
from tests.support.factories import spec
from tests.support.films import make_gif
from tests.support.finished_walks import add_finished_walk

Pixels = NDArray[np.float64]
SIDE_PX = 512
WALK_FRAMES = 25
ORDER = [*range(WALK_FRAMES), *FilmOptions(WALK_FRAMES, there_and_back=True).way_back]


def times(frames: int) -> Iterator[float]:
    """The fraction of each frame, 0 to 1."""
    yield from (index / (frames - 1) for index in range(frames))


def painted(pixels: Pixels, noise: float, random: np.random.Generator) -> Image.Image:
    """Make a picture of (size, size, 3) values in 0 to 255, with some noise like a decoder's."""
    noisy = pixels + random.normal(0, noise, pixels.shape) if noise else pixels
    return Image.fromarray(np.clip(noisy + 0.5, 0, 255).astype(np.uint8))


def shapes(size: int, noise: float, frames: int = WALK_FRAMES) -> Iterator[Image.Image]:
    """Discs and bars that move and change colour on a changing background: modern art, hard edges."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[0:size, 0:size] / size
    place, colour = random.random((2, 9, 2)), 255 * random.random((2, 10, 3))
    radius = random.uniform(0.06, 0.25, (2, 9))
    for t in times(frames):
        places, colours, radii = ((1 - t) * ends[0] + t * ends[1] for ends in (place, colour, radius))
        pixels = np.broadcast_to(colours[9], (size, size, 3))
        for number, ((cy, cx), r) in enumerate(zip(places, radii, strict=True)):
            disc, bar = np.hypot(y - cy, x - cx) - r, np.maximum(abs(y - cy) - r, abs(x - cx) - r / 3)
            cover = np.clip(0.5 - size * (disc if number % 2 else bar), 0, 1)[..., None]
            pixels = pixels * (1 - cover) + cover * colours[number]
        yield painted(pixels, noise, random)


def gradients(size: int, noise: float, frames: int = WALK_FRAMES) -> Iterator[Image.Image]:
    """Wide waves of colour, for which a palette is soonest too small."""
    random = np.random.default_rng(2)
    y, x = np.mgrid[0:size, 0:size] / size
    a = random.uniform(1, 6, (3, 4))
    for t in times(frames):
        waves = [np.sin(a[c, 0] * x + a[c, 1] * y + a[c, 2] * x * y + 2 * a[c, 3] * t + 2 * c) for c in range(3)]
        yield painted(127.5 + 110 * np.stack(waves, -1), noise, random)


def photo(size: int, noise: float, contrast: float = 45, frames: int = WALK_FRAMES) -> Iterator[Image.Image]:
    """Two coloured clouds with the spectrum of photos (1/f), one turning into the other."""
    random = np.random.default_rng(3)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))) + 1 / size
    clouds = np.fft.ifft2(np.fft.fft2(random.normal(size=(2, 3, size, size))) / f**1.4).real
    clouds = np.moveaxis(clouds / clouds.std(axis=(2, 3), keepdims=True), 1, -1)
    mix = np.array([[1, 0.8, 0.6], [0.5, 0.2, -0.4], [0.1, -0.2, 0.3]])
    for t in times(frames):
        values = math.cos(t * math.pi / 2) * clouds[0] + math.sin(t * math.pi / 2) * clouds[1]
        yield painted(120 + contrast * (values @ mix), noise, random)


KINDS: dict[str, Callable[[int], Iterator[Image.Image]]] = {
    "shapes, decoder noise 2": partial(shapes, noise=2.0),
    "shapes, decoder noise 4": partial(shapes, noise=4.0),
    "gradients": partial(gradients, noise=1.0),
    "photo": partial(photo, noise=3.0),
    "photo, muted": partial(photo, noise=2.0, contrast=18),
    "shapes, no noise at all": partial(shapes, noise=0.0),
}


def png(picture: Image.Image) -> bytes:
    """The picture as it is stored in the bucket."""
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def decoded(frame: bytes) -> Image.Image:
    """The picture of a PNG."""
    return Image.open(io.BytesIO(frame)).convert("RGB")


def psnr(path: Path, pictures: list[Image.Image]) -> float:
    """Mean PSNR of a GIF's frames in dB. Raises ValueError if the number of frames differs."""
    decibels = []
    with Image.open(path) as gif:
        for decoded, picture in zip(ImageSequence.Iterator(gif), pictures, strict=True):
            difference = np.asarray(decoded.convert("RGB"), float) - np.asarray(picture, float)
            decibels.append(10 * math.log10(255**2 / max(1e-4, float(np.mean(difference**2)))))
    return statistics.mean(decibels)


def seconds(work: Callable[[], object]) -> float:
    """The duration of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(kind: str, size: int, pairs: int, folder: Path) -> str:
    """Encode one kind of walk with both, in turn. Returns a line of the table."""
    from diffusers.utils import export_to_gif

    walk = list(KINDS[kind](size))
    pictures = [walk[index] for index in ORDER]
    frames = [png(picture) for picture in walk]
    diffusers_gif, api_gif = folder / "diffusers.gif", folder / "api.gif"
    encoders: list[Callable[[], object]] = [
        lambda: export_to_gif(pictures, str(diffusers_gif), fps=12),
        lambda: make_gif(list(map(decoded, frames)), api_gif),
    ]
    taken = [[seconds(encode) for encode in encoders] for _ in range(pairs)]
    ratio = statistics.median(slow / fast for slow, fast in taken)
    ms = [1000 * statistics.median(column) for column in zip(*taken, strict=True)]
    quality = [psnr(path, pictures) for path in (diffusers_gif, api_gif)]
    size_kb = [path.stat().st_size / 1000 for path in (diffusers_gif, api_gif)]
    return (
        f"{size:4d}  {kind:24s} {ms[0]:7.0f} {ms[1]:7.0f} {ratio:6.1f}x   {quality[0]:5.1f} {quality[1]:5.1f}"
        f" {quality[1] - quality[0]:+6.1f}   {size_kb[0]:7.0f} {size_kb[1]:7.0f}"
    )


def peak_mb() -> float:
    """The peak resident memory of this process in MiB (Linux; getrusage would include its parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


async def in_one_pass(paths: list[Path], folder: Path, latency_s: float) -> None:
    """Make all films as a worker does."""

    async def read(number: int) -> bytes:
        await anyio.sleep(latency_s)
        return await anyio.to_thread.run_sync(paths[number].read_bytes)

    async def store(_: Path) -> None:
        await anyio.sleep(latency_s)

    async with opened(f"sqlite:///{folder}/catalogue.sqlite") as engine:
        wanted = spec(frames=len(paths), width=SIDE_PX, height=SIDE_PX)
        walk = await add_finished_walk(engine, wanted)
    await make_films(read, walk, folder, store)


async def one_by_one(paths: list[Path], folder: Path, latency_s: float) -> None:
    """Measure, then make each film, each with a pass over the frames of its own; the first one fetches them."""
    for _ in paths:
        await anyio.sleep(latency_s)
    options = FilmOptions(len(paths), there_and_back=True)
    meter = Meter(len(paths))
    for path in paths:
        meter.add(decoded(path.read_bytes()))
    meter.finish()
    for output in (
        Gif(folder / "walk.gif", options),
        Video(folder / "walk.mp4", FULL, FilmOptions(len(paths))),
        Video(folder / "preview.mp4", PREVIEW, options),
        Still(folder / "poster.webp", options, save_poster),
        Still(folder / "poster.jpg", options, save_shared_poster),
    ):
        for path in paths:
            output.add(decoded(path.read_bytes()))
        output.finish("", lambda: None)
        await anyio.sleep(latency_s)


def film_all(way: str, folder: Path, count: int, latency_ms: int) -> None:
    """Make every film of a walk of `count` frames, and print the peak over idle in MB, and the seconds."""
    make = {"in one pass": in_one_pass, "one by one": one_by_one}[way]
    frames = sorted(folder.glob("*.png"))
    paths = [frames[index % len(frames)] for index in range(count)]
    idle = peak_mb()
    cpu, start = time.process_time(), time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        anyio.run(make, paths, Path(name), latency_ms / 1000)
    taken = f"{time.perf_counter() - start:6.2f} s, {time.process_time() - cpu:6.2f} s CPU"
    print(
        f"{count:4d} frames, {latency_ms:2d} ms a call, {way}: {taken}, {peak_mb() - idle:4.0f} MB over idle",
        flush=True,
    )


def main(pairs: int) -> None:
    """Print both tables."""
    print("                                    ms for 48 frames     ratio         PSNR, dB             size, kB")
    print("  px  frames                   diffusers     api        diffusers   api   diff diffusers     api")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in (128, 512):
            for kind in KINDS:
                print(compare(kind, size, pairs, folder), flush=True)
        print("\nall films of one walk at 512 px, each time in a process of its own")
        for index, picture in enumerate(shapes(SIDE_PX, noise=2.0, frames=61)):
            (folder / f"{index:03d}.png").write_bytes(png(picture))
        for count, latency_ms in ((25, 0), (61, 0), (61, 50), (241, 0)):
            for way in ("one by one", "in one pass"):
                subprocess.run(
                    [sys.executable, __file__, "--films", way, name, str(count), str(latency_ms)], check=True
                )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--films"]:
        film_all(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    else:
        main(pairs=int(sys.argv[1]) if sys.argv[1:] else 5)
