"""Uploads: what a process for each picture costs, and 100 uploads at once to one API process.

    python bench/uploads.py

First, one picture of a phone (4000 x 3000, JPEG) and a tiny one, decoded by a process of their own as the service does
it, and by the process of the bench; and the phone's picture written as PNG at three levels of compression, and as WebP
without loss. Then 10 uploads one after another, 10 at once and 100 at once, of phone pictures that differ, from an
owner each: the seconds for each, and the most memory that the API's process, and it with its decoders, had at a time.
Then the same with clips.
"""

import asyncio
import io
import os
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import aclosing
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import av
import httpx
import psutil
from PIL import Image
from rig.served import served

from momalisa_api.pictures.decoder import decode
from momalisa_api.pictures.decoders import Decoders
from momalisa_api.pictures.normalize import normalized

UPLOADS, TRIES, MB = 100, 5, 1 << 20
LOOK_S = 0.05


def phone_picture(shade: int) -> bytes:
    """A JPEG of 12 megapixels and about 2 MB: gradients with noise."""
    size = (4000, 3000)
    noise = Image.effect_noise((1000, 750), 40).resize(size)
    shades = Image.radial_gradient("L").resize(size), Image.linear_gradient("L").resize(size)
    out = io.BytesIO()
    Image.merge("RGB", (shades[0], shades[1], noise.point(lambda value: (value + shade) % 256))).save(out, "JPEG")
    return out.getvalue()


def best_s(act: Callable[[], object]) -> float:
    """The seconds that `act` takes, the least of some tries."""
    took_s = []
    for _ in range(TRIES):
        began = time.perf_counter()
        act()
        took_s.append(time.perf_counter() - began)
    return min(took_s)


def cost_of_processes(folder: Path, phone: bytes) -> None:
    """Print what a process for each picture costs."""
    tiny = io.BytesIO()
    Image.new("RGB", (16, 16)).save(tiny, "PNG")
    for name, content in (("tiny", tiny.getvalue()), ("phone", phone)):
        source, target = folder / name, folder / f"{name}.png"
        source.write_bytes(content)
        kept_s = best_s(lambda source=source, target=target: decode(source, target))
        own_s = asyncio.run(forked_s(source, target))
        print(f"{name}: {kept_s * 1000:.0f} ms in this process, {own_s * 1000:.0f} ms in one of its own")


async def forked_s(source: Path, target: Path) -> float:
    """The seconds that a picture takes in a process of its own, the least of some tries."""
    took_s = []
    async with aclosing(Decoders()) as decoders:
        for _ in range(TRIES):
            began = time.perf_counter()
            await decoders.decode(source, target)
            took_s.append(time.perf_counter() - began)
    return min(took_s)


def cost_of_formats(phone: bytes) -> None:
    """Print how long the stored file takes, and how large it is."""
    picture = normalized(phone)
    for name, kind, options in (
        ("PNG, level 1", "PNG", {"compress_level": 1}),
        ("PNG, level 2", "PNG", {"compress_level": 2}),
        ("PNG, level 6", "PNG", {"compress_level": 6}),
        ("WebP without loss", "WEBP", {"lossless": True, "method": 0}),
    ):
        out = io.BytesIO()
        picture.save(out, kind, **options)
        took_s = best_s(lambda kind=kind, options=options: picture.save(io.BytesIO(), kind, **options))
        print(f"{name}: {took_s * 1000:.0f} ms, {out.tell() / 1e6:.1f} MB")


class Memory:
    """The most memory that a process and its children had, looked at every LOOK_S seconds in a thread."""

    def __init__(self, pid: int) -> None:
        self._process, self._over = psutil.Process(pid), threading.Event()
        self.own = self.whole = 0
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            own, whole = self._process.memory_info().rss, 0
            for child in self._process.children(recursive=True):
                try:
                    whole += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.own, self.whole = max(self.own, own), max(self.whole, own + whole)


def phone_clip(number: int) -> bytes:
    """An MP4 of 1280 x 720 pixels and 3 seconds, with a number behind it."""
    return some_clip() + struct.pack(">I4sI", 12, b"free", number)


@cache
def some_clip() -> bytes:
    """An MP4 of noise."""
    with tempfile.NamedTemporaryFile() as file, av.open(file.name, "w", format="mp4") as container:
        video = container.add_stream("libx264", 30, options={"preset": "ultrafast", "crf": "20"})
        video.width, video.height, video.pix_fmt = 1280, 720, "yuv420p"
        for frame in range(90):
            noise = Image.effect_noise((160, 90), 20 + frame % 40).resize((1280, 720)).convert("RGB")
            container.mux(video.encode(av.VideoFrame.from_image(noise)))
        container.mux(video.encode())
        container.close()
        return Path(file.name).read_bytes()


async def upload(url: str, path: str, files: list[bytes], at_once: int) -> list[int]:
    """Upload files, each by an owner of its own. Returns the statuses."""
    places, statuses = asyncio.Semaphore(at_once), []

    async def one(content: bytes) -> None:
        async with places, httpx.AsyncClient(base_url=url, timeout=600) as client:
            # The first answer sets the cookie of the owner.
            await client.post(path, content=b"")
            statuses.append((await client.post(path, content=content)).status_code)

    await asyncio.gather(*map(one, files))
    return statuses


def uploads_at_once(folder: Path) -> None:
    """Print time and memory of few and of many uploads at once."""
    with served(folder, f"sqlite:///{folder}/catalogue.sqlite") as api:
        url = f"http://127.0.0.1:{api.port}"
        for path, made in (("/api/v1/pictures", phone_picture), ("/api/v1/clips", phone_clip)):
            several_at_once(api.process, url, path, made)


def several_at_once(api: psutil.Process, url: str, path: str, made: Callable[[int], bytes]) -> None:
    """Print time and memory of few and of many uploads of a kind."""
    asyncio.run(upload(url, path, [made(0)], 1))
    idle, numbers = api.memory_info().rss, iter(range(1, 1000))
    for count, at_once in ((10, 1), (10, 10), (UPLOADS, UPLOADS)):
        files = [made(next(numbers)) for _ in range(count)]
        began = time.perf_counter()
        with Memory(api.pid) as memory:
            statuses = asyncio.run(upload(url, path, files, at_once))
        took_s = time.perf_counter() - began
        assert set(statuses) == {201}, statuses
        print(
            f"{path}: {count} uploads of {len(files[0]) / 1e6:.1f} MB, {at_once} at once: {took_s / count:.2f} s each; "
            f"the API {idle / MB:.0f} MB before, {memory.own / MB:.0f} MB at most, "
            f"with its decoders {memory.whole / MB:.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as created:
        some = phone_picture(0)
        print(f"{os.cpu_count()} cores; the phone's picture has {len(some) / 1e6:.1f} MB")
        cost_of_processes(Path(created), some)
        cost_of_formats(some)
        uploads_at_once(Path(created))
