"""Reads pictures and clips in processes of their own, a few at a time, each of which ends after one file.

Those for pictures are forks of processes that stay: to start Python takes longer than to decode a small picture.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog

from momalisa_api.pictures.kept_processes import KeptProcesses
from momalisa_api.problems import BadClip, BadPicture, BucketUnavailable, QueueFull

PICTURE_DECODERS: Final = 2
CLIP_REMUXERS: Final = 1
CLIP_DECODERS: Final = 1
DECODING_S: Final = 30.0
# Of other work, too: the program gives way to it.
CLIP_DECODING_S: Final = 900.0
RETRY_S: Final = 10
GAVE_UP: Final = "The picture takes too much time or memory. Save it as a plain JPEG or PNG, or make it smaller."
CLIP_GAVE_UP: Final = "The clip takes too much time or memory. Save it as a plain MP4, or make it shorter."
NO_ROOM: Final = "No room is left for uploads. Retry in a few seconds."
CLIP_NOT_DECODED: Final = "The clip of this walk takes too much time or memory. Upload a shorter or smaller one."
# Nothing else of this process's environment, which has passwords.
_ENVIRONMENT: Final = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """A PNG file. id: the SHA-256 of its bytes, in hexadecimal."""

    file: Path
    id: str
    width: int
    height: int
    size: int


@dataclass(frozen=True, slots=True)
class RemuxedClip:
    """A file with one video. id: the SHA-256 of its bytes; ending: mp4 or webm; width, height: as players show it."""

    file: Path
    id: str
    ending: str
    seconds: float
    width: int
    height: int
    frames: int
    has_sound: bool


class Decoders:
    """Has the program `decoder` decode each picture in a process of its own."""

    def __init__(self, at_once: int = PICTURE_DECODERS, limit_s: float = DECODING_S) -> None:
        """at_once: pictures decoded at a time, further ones wait; limit_s: for one picture."""
        self._program = _KeptProgram("momalisa_api.pictures.decoder", at_once, limit_s)

    async def decode(self, source: Path, target: Path, boundary: str | None = None) -> DecodedPicture:
        """Decode a picture into the PNG file `target`. boundary: of the form that contains it.

        Raises BadPicture, QueueFull if the machine can start no process, and BucketUnavailable if its disk is full.
        """
        found = await self._program.run(source, target, *([boundary] if boundary else []))
        if found is None or "problem" in found:
            raise BadPicture(found["problem"] if found else GAVE_UP)
        identity, size = await anyio.to_thread.run_sync(_measure, target)
        return DecodedPicture(target, identity, found["width"], found["height"], size)

    async def aclose(self) -> None:
        """End the processes that stay."""
        await self._program.aclose()


class Remuxers:
    """Starts the program `remuxer` for each clip."""

    def __init__(self, at_once: int = CLIP_REMUXERS, limit_s: float = DECODING_S) -> None:
        """at_once: clips remuxed at a time, further ones wait; limit_s: for one clip."""
        self._program = _Program("momalisa_api.pictures.remuxer", at_once, limit_s)

    async def remux(self, source: Path, target: Path, boundary: str | None = None) -> RemuxedClip:
        """Remux a clip into the file `target`. Raises BadClip, and otherwise what Decoders.decode raises."""
        found = await self._program.run(source, target, *([boundary] if boundary else []))
        if found is None or "problem" in found:
            raise BadClip(found["problem"] if found else CLIP_GAVE_UP)
        identity, _ = await anyio.to_thread.run_sync(_measure, target)
        return RemuxedClip(target, identity, **found)


class ClipDecoders:
    """Starts the program `clip_decoder` for each clip that a walk needs."""

    def __init__(self, at_once: int = CLIP_DECODERS, limit_s: float = CLIP_DECODING_S) -> None:
        """at_once: clips decoded at a time, further ones wait; limit_s: for one clip."""
        self._program = _Program("momalisa_api.pictures.clip_decoder", at_once, limit_s)

    async def decode(self, source: Path, folder: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Decode a stored clip into a folder. wanted, and the result: the fields of `clip_frames.Wanted`, `ClipTrack`.

        Raises BadClip, and otherwise what Decoders.decode raises.
        """
        found = await self._program.run(source, folder, json.dumps(wanted))
        if found is None or "problem" in found:
            raise BadClip(found["problem"] if found else CLIP_NOT_DECODED)
        return found


class _Program:
    """A module of this package that reads one file as `python -m`, and prints a JSON object."""

    def __init__(self, module: str, at_once: int, limit_s: float) -> None:
        self._module = module
        self._places = anyio.CapacityLimiter(at_once)
        self._limit_s = limit_s

    async def run(self, source: Path, target: Path, *more: str) -> dict[str, Any] | None:
        """What it prints; None if it was killed, by its limits or a hostile file.

        Raises QueueFull, and BucketUnavailable if it could not write.
        """
        async with self._places:
            try:
                output, code = await self._run(str(source), str(target), *more)
            except OSError as error:
                log.error("decoder cannot be started", module=self._module, exc_info=error)
                raise QueueFull("No upload can be read at the moment. Retry in some seconds.", RETRY_S) from error
        try:
            found = json.loads(output)
        except ValueError:
            log.warning("decoder ended without an answer", module=self._module, code=code)
            return None
        if not isinstance(found, dict):
            return None
        if "disk" in found:
            log.error("decoder cannot write", module=self._module, reason=found["disk"])
            raise BucketUnavailable(NO_ROOM)
        return found

    async def _run(self, *arguments: str) -> tuple[bytes, int | None]:
        """What it prints, and its exit status."""
        # -P, -s: only this package and the installed ones are imported, wherever this process runs.
        command = [sys.executable, "-P", "-s", "-m", self._module, *arguments]
        output, code = b"", None
        async with await anyio.open_process(
            command, stdin=DEVNULL, stderr=DEVNULL, env=_ENVIRONMENT, start_new_session=True
        ) as process:
            try:
                with anyio.move_on_after(self._limit_s):
                    assert process.stdout
                    output = b"".join([chunk async for chunk in process.stdout])
                    code = await process.wait()
            finally:
                with suppress(ProcessLookupError):
                    process.kill()
        return output, code


class _KeptProgram(_Program):
    """A module of this package that stays, and reads one file after another in forks of its own."""

    def __init__(self, module: str, at_once: int, limit_s: float) -> None:
        super().__init__(module, at_once, limit_s)
        self._processes = KeptProcesses(module, _ENVIRONMENT)

    async def aclose(self) -> None:
        await self._processes.aclose()

    async def _run(self, *arguments: str) -> tuple[bytes, int | None]:
        answer = await self._processes.ask(json.dumps(arguments).encode() + b"\n", self._limit_s)
        if not answer:
            return b"", None
        found = json.loads(answer)
        return found["output"].encode(), found["code"]


def _measure(file: Path) -> tuple[str, int]:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest(), file.stat().st_size
