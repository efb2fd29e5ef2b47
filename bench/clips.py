"""Clips as sources of walks: what decoding costs, and whether a walk of 900 frames stays small.

    python bench/clips.py

First, a clip of 300 frames (1280 x 720, moving, with grain) decoded for a walk of 480 x 270: once for all shards, and
the share of that which each shard would take if it decoded for itself. Then the files of its pictures in several
formats. Then a walk of 900 frames in the catalogue: what reading it takes, half rendered, with its layout in the row
as a layout that was settled in rounds is, and without it; and the bytes of an event for those who watch.
"""

import asyncio
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import av
import numpy as np
from PIL import Image
from sqlalchemy import update

from momalisa_api.pictures.clip_frames import Wanted, decoded
from momalisa_api.pictures.remux import remuxed
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.clips import ClipStore
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.progress import Progress
from momalisa_api.store.schema import opened
from momalisa_api.store.tables import walks
from momalisa_api.walks.clip import ClipSpec
from momalisa_api.walks.rounds import first_layout
from momalisa_api.walks.spec import plan_shards
from tests.support.pictures import landscape, psnr

FRAMES, RATE, SIZE, SMALL, SHARD = 300, 30, (1280, 720), (480, 270), 4
LONG = 900
OWNER = "key:bench"


def cpu_s(act: Callable[[], object], tries: int = 1) -> float:
    """Seconds of CPU time of this process, on average."""
    began = time.process_time()
    for _ in range(tries):
        act()
    return (time.process_time() - began) / tries


def moving_clip(target: Path) -> None:
    """A camera that pans over a landscape, as phones record it."""
    wide = landscape(SIZE[0] + 2 * FRAMES, SIZE[1])
    grain = np.random.default_rng(0)
    with av.open(str(target), "w", format="mp4") as container:
        video: Any = container.add_stream("libx264", RATE, options={"preset": "veryfast", "crf": "23"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        for number in range(FRAMES):
            picture = np.asarray(wide.crop((2 * number, 0, 2 * number + SIZE[0], SIZE[1])), float)
            noisy = (picture + grain.normal(0, 2, picture.shape)).clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(noisy, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode())


def decoding(folder: Path) -> None:
    """The cost of a clip, once and for each shard."""
    moving_clip(folder / "upload")
    with (folder / "upload").open("rb") as upload:
        found = remuxed(upload, folder / "clip")
    wanted = Wanted(1, found.frames, SMALL, 10**6)
    once = cpu_s(lambda: decoded(folder / "clip", folder, wanted))
    facts = cpu_s(lambda: decoded(folder / "clip", folder, Wanted(1, found.frames)))
    size = sum(file.stat().st_size for file in folder.glob("*.jpg"))
    print(f"{FRAMES} frames, {SIZE[0]} x {SIZE[1]}, for {SMALL[0]} x {SMALL[1]}: {once:.2f} s of CPU time, {size:,} B")
    print(f"  without pictures, for the times of the film: {facts / once:.2f} of that")
    # From the only key frame of 250 to the middle, on average.
    middle = cpu_s(lambda: first_part(folder / "clip", 125))
    shards = FRAMES / SHARD
    print(f"  each of {shards:.0f} shards for itself, from its key frame: {shards * middle / once:.0f} times that")


def first_part(clip: Path, frames: int) -> None:
    """Decode the first frames of a clip, and scale as many as a shard has."""
    with av.open(str(clip)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(video=0)):
            if number >= frames - SHARD:
                frame.reformat(*SMALL, format="rgb24")
            if number == frames:
                return


def formats() -> None:
    """Files of pictures with grain, each against a PNG."""
    pictures = [landscape(*SMALL, seed=seed) for seed in range(5)]
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "PNG, level 2": ("PNG", {"compress_level": 2}),
        "WebP without loss": ("WEBP", {"lossless": True, "method": 0, "quality": 0}),
        "WebP 95": ("WEBP", {"quality": 95, "method": 0}),
        "JPEG 95": ("JPEG", {"quality": 95, "subsampling": 0}),
    }
    first: tuple[float, int] | None = None
    for name, (kind, options) in kinds.items():
        files: list[bytes] = []

        def save(kind: str = kind, options: dict[str, Any] = options, files: list[bytes] = files) -> None:
            for picture in pictures:
                out = io.BytesIO()
                picture.save(out, kind, **options)
                files.append(out.getvalue())

        took = cpu_s(save, 3) / len(pictures)
        size = sum(map(len, files)) // len(files)
        first = first or (took, size)
        quality = psnr(Image.open(io.BytesIO(files[0])), pictures[0])
        ratios = f"{took / first[0]:.2f} of the time, {size / first[1]:.2f} of the bytes of PNG"
        print(f"{name}: {1000 * took:.1f} ms, {size // 1000} kB, {min(quality, 99):.1f} dB; {ratios}")


def long_spec(clip: str) -> ClipSpec:
    """A walk of 900 frames."""
    settings = {"width": 480, "height": 270, "model": "styles", "revision": "1", "frame_ms": 33, "style": "woodcut"}
    flags = {"gif_there_and_back": False, "mp4_there_and_back": False}
    return ClipSpec(kind="clip", clip=clip, every=1, frames=LONG, scope="0" * 32, **settings, **flags)


async def long_walk(folder: Path) -> None:
    """What a walk of 900 frames costs those who read it."""
    async with opened(f"sqlite:///{folder}/catalogue.sqlite") as engine:
        catalogue, progress = Catalogue(engine), Progress(engine)
        store = ClipStore(engine, FolderBucket(folder / "bucket"), timedelta(hours=1))
        with (folder / "upload").open("rb") as upload:
            found = remuxed(upload, folder / "clip")
        uploaded = type("Uploaded", (), {**{n: getattr(found, n) for n in found.__slots__}, "file": folder / "clip"})
        uploaded.id = "a" * 64
        await store.add(OWNER, uploaded)
        walk, _ = await catalogue.request(long_spec("a" * 64), OWNER)
        layout = first_layout(walk.spec)
        frames = layout.frames(walk.spec)
        numbers = {frame.fraction: number for number, frame in enumerate(frames)}
        shards = [[numbers[at] for at in shard.fractions] for shard in plan_shards(walk.id, frames, SHARD)]
        await progress.plan(walk, layout, range(LONG // 2), shards)

        async def read_ms() -> float:
            began = time.process_time()
            for _ in range(20):
                await catalogue.get(walk.id)
            return 50 * (time.process_time() - began)

        without = await read_ms()
        full = layout.model_dump(mode="json")
        async with engine.begin() as connection:
            await connection.execute(update(walks).where(walks.c.id == walk.id).values(layout=full))
        with_layout = await read_ms()
        size = len(json.dumps(full))
        print(f"a walk of {LONG} frames, half of them stored: {without:.1f} ms of CPU time to read")
        print(f"  with its layout in the row: {with_layout / without:.1f} times that, and {size:,} B more in the row")
        event = json.dumps({"spec": walk.spec.model_dump(mode="json"), "frames_ready": list(range(LONG))})
        print(f"  an event of it: at most {len(event):,} B beside warnings and films")


def main() -> None:
    """Print all figures."""
    with tempfile.TemporaryDirectory() as folder:
        decoding(Path(folder))
        formats()
        asyncio.run(long_walk(Path(folder)))


if __name__ == "__main__":
    main()
