"""Everything that is made of a finished walk's frames, in one pass: its films, and how smoothly it moves.

Frames are fetched ahead and decoded once. Each picture goes to every output; an output encodes in a thread of its own,
a few pictures behind the others at most, and its film is stored as soon as it is complete.
"""

import io
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import anyio
from anyio import from_thread
from anyio.streams.memory import MemoryObjectReceiveStream
from anyio.to_thread import run_sync
from PIL import Image

from momalisa_api.concurrency import task_group
from momalisa_api.films.films import FilmOptions, FilmTimes, FilmTooLarge, can_make_video
from momalisa_api.films.kinds import FilmName
from momalisa_api.films.outputs import Gif, Output, Still, save_poster, save_shared_poster
from momalisa_api.films.provenance import DigitalSource, source_of
from momalisa_api.films.read_ahead import Read, read_ahead
from momalisa_api.walks.smoothness import Meter, Smoothness
from momalisa_api.walks.walk import Walk

# Frames that are fetched before they are needed: at most so many, and no more than fit into these bytes as pixels.
AHEAD: Final = 16
AHEAD_BYTES: Final = 32 * 1024 * 1024
# Decoded pictures that wait for an output.
WAITING: Final = 2
# More than the smoothness needs in the metadata: without jumps, and for each of them.
SMOOTHNESS_BYTES: Final = 200
JUMP_BYTES: Final = 48

Sign = Callable[[Path, DigitalSource], None]


@dataclass(frozen=True, slots=True)
class Made:
    """What was made of a walk. too_large: the films that it has not, because they would have been too large."""

    films: frozenset[FilmName]
    too_large: tuple[FilmName, ...]
    smoothness: Smoothness


async def make_films(
    read: Read,
    walk: Walk,
    folder: Path,
    store: Callable[[Path], Awaitable[object]],
    sign: Sign | None = None,
    times: FilmTimes | None = None,
) -> Made:
    """Make all films of a walk that this installation can make.

    read: returns the PNG of a frame. store: called with each film, several at a time. sign: signs a film. times: when
    the frames of a walk along a clip are shown. The smoothness is in every film's metadata, with the walk's spec and
    its version, seed, fractions between stops, legs with the early blend, and the fingerprints of its frames (null:
    unknown). Raises ValueError for unreadable frames, and what the functions raise; then no thread is left, and no
    file.
    """
    return await _Filming(read, walk, folder, store, sign, times).run()


class _Filming:
    """One walk while its films are made."""

    def __init__(
        self,
        read: Read,
        walk: Walk,
        folder: Path,
        store: Callable[[Path], Awaitable[object]],
        sign: Sign | None,
        times: FilmTimes | None,
    ) -> None:
        spec, self._count = walk.spec, len(walk.layout.points)
        # The scope is a secret of the deployment.
        stored, version = spec.in_scope(None).to_stored()
        stored.pop("scope", None)
        self._facts = {
            **stored,
            "version": version,
            "seed": walk.seed,
            # Those of other kinds are uniform, and a clip has hundreds.
            **({"fractions": [point.fraction for point in walk.layout.points]} if spec.kind == "between" else {}),
            "early_legs": walk.early_legs,
            "fingerprints": [fingerprint or None for fingerprint in walk.fingerprints],
        }
        room = len(json.dumps(self._facts)) + SMOOTHNESS_BYTES + JUMP_BYTES * (self._count // 3)
        self._source = source_of((*spec.pictures, *spec.clips))
        self._outputs = _outputs(walk, folder, room, self._source, times)
        self._comment = ""
        self._read, self._store, self._sign = read, store, sign
        self._ahead = max(1, min(AHEAD, AHEAD_BYTES // (3 * spec.width * spec.height)))
        self._size: tuple[int, int] | None = None
        self._too_large: set[FilmName] = set()

    async def run(self) -> Made:
        meter = Meter(self._count)
        async with task_group() as tasks:
            with ExitStack() as stack:
                senders = []
                for name, output in self._outputs.items():
                    sender, receiver = anyio.create_memory_object_stream[Image.Image](WAITING)
                    tasks.start_soon(self._make, name, output, receiver)
                    senders.append(stack.enter_context(sender))
                async with aclosing(self._pictures(range(self._count), meter.add)) as pictures:
                    async for picture in pictures:
                        for sender in senders:
                            await sender.send(picture)
                smoothness = meter.finish()
                self._comment = json.dumps({**self._facts, "smoothness": smoothness.model_dump(mode="json")})
        too_large = tuple(name for name in self._outputs if name in self._too_large)
        return Made(frozenset(self._outputs).difference(too_large), too_large, smoothness)

    async def _make(self, name: FilmName, output: Output, pictures: MemoryObjectReceiveStream[Image.Image]) -> None:
        """Make one film of the pictures, and store it."""
        with pictures:
            try:
                async for picture in pictures:
                    await run_sync(output.add, picture)
                async with aclosing(self._pictures(output.again())) as again:
                    async for picture in again:
                        await run_sync(output.add, picture)
                await run_sync(output.finish, self._comment, from_thread.check_cancelled)
                if self._sign:
                    await run_sync(self._sign, output.target, self._source)
                await self._store(output.target)
            except FilmTooLarge:
                self._too_large.add(name)
                async for _ in pictures:
                    pass  # the other films go on
            finally:
                with anyio.CancelScope(shield=True):
                    await run_sync(_discard, output)

    async def _pictures(
        self, numbers: Iterable[int], see: Callable[[Image.Image], object] = lambda _: None
    ) -> AsyncGenerator[Image.Image]:
        """Decode frames to RGB. see: called with each picture in the thread that has decoded it."""

        def decode(png: bytes, number: int) -> Image.Image:
            picture = _decode(png, number)
            self._check_size(picture, number)
            see(picture)
            return picture

        wanted = list(numbers)
        async with aclosing(read_ahead(self._read, wanted, self._ahead)) as contents:
            for number in wanted:
                yield await run_sync(decode, await anext(contents), number)

    def _check_size(self, picture: Image.Image, number: int) -> None:
        self._size = self._size or picture.size
        if picture.size != self._size:
            sizes = "{} x {}, not {} x {}".format(*picture.size, *self._size)
            raise ValueError(f"frame {number} is {sizes} like the frames before it")


def _outputs(
    walk: Walk, folder: Path, comment_bytes: int, source: DigitalSource, times: FilmTimes | None
) -> dict[FilmName, Output]:
    """The films that this installation can make."""
    spec, count = walk.spec, len(walk.layout.points)

    def options(there_and_back: bool, times: FilmTimes | None = times) -> FilmOptions:
        return FilmOptions(count, spec.frame_ms, there_and_back, comment_bytes, source, times)

    outputs: dict[FilmName, Output] = {
        FilmName.GIF: Gif(folder / FilmName.GIF, options(spec.gif_there_and_back)),
        FilmName.POSTER: Still(folder / FilmName.POSTER, options(False), save_poster),
        FilmName.SHARED_POSTER: Still(folder / FilmName.SHARED_POSTER, options(False), save_shared_poster),
    }
    if can_make_video():
        from momalisa_api.films.mp4 import FULL, PREVIEW, Video

        # A preview plays for ever: what ends where it begins, or has a time of its own, plays forward.
        back = spec.kind not in ("into", "clip")
        outputs[FilmName.MP4] = Video(folder / FilmName.MP4, FULL, options(spec.mp4_there_and_back))
        outputs[FilmName.PREVIEW] = Video(
            folder / FilmName.PREVIEW, PREVIEW, options(back, times and replace(times, sound=None))
        )
    return outputs


def _discard(output: Output) -> None:
    output.close()
    output.target.unlink(missing_ok=True)


def _decode(png: bytes, number: int) -> Image.Image:
    """Decode one frame to RGB. Raises ValueError if it is not a picture."""
    try:
        with Image.open(io.BytesIO(png)) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as problem:
        raise ValueError(f"frame {number} cannot be read: {problem}") from problem
