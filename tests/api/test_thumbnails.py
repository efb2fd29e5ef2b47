"""Thumbnails: what the spacing is computed from, wherever it comes from, and how often pictures are fetched for it."""

import io
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from PIL import Image

from momalisa_api.fleet.fleet import Fleet
from momalisa_api.metrics import Metrics
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.erasures import Erasures
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.models import ModelRegistry
from momalisa_api.store.notifications import Listener
from momalisa_api.store.progress import Progress
from momalisa_api.store.queue import Kind, open_queue
from momalisa_api.store.schema import opened
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.smoothness import Thumbnail
from momalisa_api.walks.spec import Frame
from momalisa_api.walks.walk import Walk
from momalisa_api.work.contact_sheet import pack, unpack
from momalisa_api.work.studio import Studio, missing_jobs
from momalisa_api.work.thumbnails import Thumbnails
from tests.support.factories import CARD, FakeFleet, painted, spec

pytestmark = pytest.mark.anyio


class CountingBucket(FolderBucket):
    """Counts reads and writes. overtaken: what others write just before this writes the same key."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self.overtaken: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes:
        self.reads[key] += 1
        return await super().get(key)

    async def put(self, key: str, content: bytes) -> bool:
        self.writes[key] += 1
        if key in self.overtaken:
            await super().put(key, self.overtaken[key])
        return await super().put(key, content)

    @property
    def frames_read(self) -> list[str]:
        return [key for key in self.reads.elements() if key.startswith("frames/")]

    @property
    def sheets(self) -> list[str]:
        return [key for key in self.writes.elements() if key.startswith("walks/")]

    async def on_sheets(self) -> list[str]:
        """The frames that stored sheets show."""
        sheets = [await super(CountingBucket, self).get(key) for key in set(self.sheets)]
        return [key for sheet in sheets for key in unpack(sheet, Thumbnail.size_of(32, 32))]


def noise(seed: int, width: int = 136, height: int = 96) -> bytes:
    out = io.BytesIO()
    Image.frombytes("RGB", (width, height), random.Random(seed).randbytes(3 * width * height)).save(out, "PNG")
    return out.getvalue()


def measures(thumbnails: dict[str, Thumbnail]) -> dict[str, tuple[tuple[int, int], bytes, str]]:
    return {key: (each.small.size, each.small.tobytes(), each.edge.hex()) for key, each in thumbnails.items()}


def frames_of(count: int, width: int = 136, height: int = 96) -> list[Frame]:
    recipe = spec(width=width, height=height).recipes(0)[0]
    return [Frame(recipe, number / count) for number in range(count)]


async def stored(bucket: FolderBucket, frames: list[Frame]) -> dict[str, bytes]:
    pictures = {frame.key: noise(number) for number, frame in enumerate(frames)}
    for key, picture in pictures.items():
        await bucket.put(key, picture)
    return pictures


async def test_a_thumbnail_is_the_same_from_a_replicas_bytes_a_sheet_and_the_stored_frame(tmp_path):
    """Otherwise the frames of a walk would depend on which worker computes its spacing."""
    bucket, frames = CountingBucket(tmp_path), frames_of(3)
    pictures = await stored(bucket, frames)
    expected = measures({key: Thumbnail.of(picture) for key, picture in pictures.items()})
    first, second, third = (Thumbnails(bucket) for _ in range(3))
    for key, picture in pictures.items():
        await first.take(key, picture)
    kept = await first.of("walk", frames)
    assert measures(await second.of("walk", frames)) == expected
    assert sorted(bucket.frames_read) == sorted(pictures)
    await first.store("walk", kept)
    assert measures(await third.of("walk", frames)) == expected
    assert measures(kept) == expected
    assert sorted(bucket.frames_read) == sorted(pictures), "the third one had a sheet"


@pytest.mark.parametrize("size", [(32, 32), (512, 512), (768, 512), (300, 517)])
def test_a_sheet_expects_thumbnails_of_the_size_that_they_have(size):
    assert Thumbnail.of(noise(0, *size)).small.size == Thumbnail.size_of(*size)


def resized(sheet: bytes) -> bytes:
    out = io.BytesIO()
    with Image.open(io.BytesIO(sheet)) as picture:
        picture.resize((4, 4)).save(out, "PNG", pnginfo=None)
    return out.getvalue()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sheet: b"",
        lambda sheet: b"not a picture",
        lambda sheet: sheet[: len(sheet) // 2],
        lambda sheet: sheet[:-900] + bytes(800) + sheet[-100:],
        lambda sheet: noise(0),
        lambda sheet: sheet.replace(b'{"', b'["'),
        lambda sheet: pack({"frames/of/another.png": Thumbnail.of(noise(9))}),
        lambda sheet: pack({"frames/of/another.png": Thumbnail.of(noise(9, 8, 8))}),
        resized,
    ],
)
async def test_a_damaged_or_foreign_sheet_only_costs_a_fetch_of_the_frames(tmp_path, spoil):
    """A walk must not fail, nor change, because of a file that only saves time."""
    bucket, frames = CountingBucket(tmp_path), frames_of(2)
    pictures = await stored(bucket, frames)
    expected = {key: Thumbnail.of(picture) for key, picture in pictures.items()}
    await bucket.put("walks/walk/thumbnails-1-0.png", spoil(pack(expected)))
    assert measures(await Thumbnails(bucket).of("walk", frames)) == measures(expected)
    assert sorted(bucket.frames_read) == sorted(pictures)


def test_what_a_sheet_says_of_its_size_is_checked_before_it_takes_memory():
    """A few kilobytes can claim to be gigabytes of pixels."""
    with pytest.raises(ValueError, match="pixels"):
        unpack(pack({"a": Thumbnail.of(noise(0))}), (8, 8))


async def test_walks_that_need_the_same_pictures_at_the_same_time_fetch_them_once(tmp_path):
    """After a restart, many walks may be measured at once."""
    bucket, frames = CountingBucket(tmp_path), frames_of(3)
    await stored(bucket, frames)
    thumbnails = Thumbnails(bucket)
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(thumbnails.of, f"walk {number}", frames)
    assert len(bucket.frames_read) == 3


async def test_thumbnails_take_a_bounded_amount_of_memory(tmp_path):
    """The oldest ones go first, and are fetched again when they are needed."""
    bucket, frames = CountingBucket(tmp_path), frames_of(4)
    pictures = await stored(bucket, frames)
    thumbnails = Thumbnails(bucket, max_bytes=3 * 4 * 136 * 96)
    for key, picture in pictures.items():
        await thumbnails.take(key, picture)
    assert len(await thumbnails.of("walk", frames)) == 4
    assert bucket.frames_read == [frames[0].key]


@asynccontextmanager
async def studios(
    folder: Path, fleet: FakeFleet
) -> AsyncIterator[tuple[Catalogue, Callable[[], Studio], CountingBucket]]:
    """A catalogue, a function that starts another worker's studio, and the bucket of all of them."""
    bucket = CountingBucket(folder / "bucket")
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(opened(f"sqlite:///{folder}/catalogue.sqlite"))
        client = await stack.enter_async_context(fleet.client())
        queue = await stack.enter_async_context(open_queue(engine, Listener(engine), lease_s=10))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        models = ModelRegistry(engine, fixed=ModelCard.model_validate(CARD))
        replicas = Fleet(fleet.addresses, client, models, Metrics(), refresh_s=1, shard_tries=5, backups=False)
        tasks.start_soon(replicas.run)
        parts = (models, Catalogue(engine), Progress(engine), bucket, queue, replicas)
        yield parts[1], lambda: Studio(*parts), bucket
        tasks.cancel_scope.cancel()


async def made(catalogue: Catalogue, walk: Walk, workers: Callable[[], list[Studio]]) -> Walk:
    """The walk before its films. workers: of each round; they take its jobs in turn."""
    while (jobs := missing_jobs(walk))[0].kind is not Kind.FILM:
        studios = workers()
        for number, job in enumerate(jobs):
            await studios[number % len(studios)].do(job, await catalogue.get(walk.id), anyio.lowlevel.checkpoint)
        walk = await catalogue.get(walk.id)
    return walk


def steep(recipe: dict[str, int], fraction: float) -> bytes:
    return painted(recipe, fraction**4)


async def test_no_picture_is_fetched_more_than_once_for_measuring(tmp_path, fleet):
    """Two workers render a walk, and take turns at computing its spacing; a third one takes over from time to time."""
    fleet.add(paint=steep)
    async with studios(tmp_path, fleet) as (catalogue, start, bucket):
        walk, _ = await catalogue.request(spec(frames=25, spacing="even"), "somebody")
        pair, rounds = [start(), start()], 0

        def workers() -> list[Studio]:
            nonlocal rounds
            rounds += 1
            pair.reverse()
            return [start()] if rounds % 5 == 0 else pair

        walk = await made(catalogue, walk, workers)
        assert len(walk.frames) == 25
        assert max(Counter(bucket.frames_read).values()) == 1
        assert max(Counter(bucket.sheets).values()) == 1


async def test_a_worker_alone_fetches_no_picture_for_measuring(tmp_path, fleet):
    """It has seen all of them arrive. Each round leaves one sheet, which is deleted with the walk."""
    fleet.add(paint=steep)
    async with studios(tmp_path, fleet) as (catalogue, start, bucket):
        walk, _ = await catalogue.request(spec(frames=25, spacing="even"), "somebody")
        studio = start()
        await made(catalogue, walk, lambda: [studio])
        assert not bucket.reads
        measured = (await catalogue.get(walk.id)).plans - 1
        assert len(bucket.sheets) == measured
        frames = [key for key in bucket.writes if key.startswith("frames/") and key.endswith(".png")]
        assert sorted(await bucket.on_sheets()) == sorted(frames)
        await Erasures(catalogue._engine, bucket).purge(walk.id)
        assert not [path for path in (tmp_path / "bucket").rglob("*") if path.is_file()]


async def test_after_a_takeover_measures_of_earlier_rounds_come_from_the_sheets(tmp_path, fleet):
    """Only pictures of the round in progress are fetched, once."""
    fleet.add(paint=steep)
    async with studios(tmp_path, fleet) as (catalogue, start, bucket):
        walk, _ = await catalogue.request(spec(frames=25, spacing="even"), "somebody")
        lost, measured = start(), set[str]()
        for _ in ("plan", "render", "measure", "render"):
            for job in missing_jobs(walk):
                if job.kind is Kind.MEASURE:
                    measured |= {frame.key for frame in walk.layout.frames(walk.spec)}
                await lost.do(job, await catalogue.get(walk.id), anyio.lowlevel.checkpoint)
            walk = await catalogue.get(walk.id)
        assert measured
        next_one = start()
        await made(catalogue, walk, lambda: [next_one])
        assert not measured & {*bucket.frames_read}
        assert max(Counter(await bucket.on_sheets()).values()) == 1
        assert max(Counter(bucket.frames_read).values(), default=1) == 1


async def test_a_frame_that_another_worker_stored_first_is_measured_as_it_was_stored(tmp_path, fleet):
    """Replicas with other libraries render slightly different pictures; the first one stays in the bucket."""
    fleet.add(paint=steep)
    async with studios(tmp_path, fleet) as (catalogue, start, bucket):
        walk, _ = await catalogue.request(spec(frames=25, spacing="even"), "somebody")
        studio = start()
        await studio.do(missing_jobs(walk)[0], walk, anyio.lowlevel.checkpoint)
        walk = await catalogue.get(walk.id)
        theirs = walk.layout.frames(walk.spec)[0]

        bucket.overtaken = {theirs.key: painted({"width": 32, "height": 32, "seed": 9}, 0.5)}
        for job in missing_jobs(walk):
            await studio.do(job, await catalogue.get(walk.id), anyio.lowlevel.checkpoint)
        walk = await catalogue.get(walk.id)
        await studio.do(missing_jobs(walk)[0], walk, anyio.lowlevel.checkpoint)
        assert bucket.frames_read == [theirs.key]
