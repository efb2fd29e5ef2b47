"""Decodes pictures in processes of their own, a few at a time, each of which ends after one picture."""

import hashlib
import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog

from momalisa_api.problems import BadPicture, QueueFull

PICTURE_DECODERS: Final = 2
DECODING_S: Final = 30.0
RETRY_S: Final = 10
GAVE_UP: Final = "The picture takes too much time or memory. Save it as a plain JPEG or PNG, or make it smaller."
_PROGRAM: Final = "momalisa_api.pictures.decoder"
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


class Decoders:
    """Starts the program `decoder` for each picture."""

    def __init__(self, at_once: int = PICTURE_DECODERS, limit_s: float = DECODING_S) -> None:
        """at_once: pictures decoded at a time, further ones wait; limit_s: for one picture."""
        self._places = anyio.CapacityLimiter(at_once)
        self._limit_s = limit_s

    async def decode(self, source: Path, target: Path, boundary: str | None = None) -> DecodedPicture:
        """Decode a picture into the PNG file `target`. boundary: of the form that contains it.

        Raises BadPicture, and QueueFull if the machine can start no process.
        """
        async with self._places:
            try:
                printed = await self._run(str(source), str(target), *([boundary] if boundary else []))
            except OSError as error:
                log.error("picture decoder cannot be started", exc_info=error)
                raise QueueFull("No picture can be decoded at the moment. Retry in some seconds.", RETRY_S) from error
        if "problem" in printed:
            raise BadPicture(str(printed["problem"]))
        identity, size = await anyio.to_thread.run_sync(_measure, target)
        return DecodedPicture(target, identity, printed["width"], printed["height"], size)

    async def _run(self, *arguments: str) -> dict[str, Any]:
        """What the decoder prints. One that was killed, by its limits or a hostile picture, is a problem, too."""
        # -P, -s: only this package and the installed ones are imported, wherever this process runs.
        command = [sys.executable, "-P", "-s", "-m", _PROGRAM, *arguments]
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
        try:
            found = json.loads(output)
        except ValueError:
            log.warning("picture decoder ended without an answer", code=code)
            return {"problem": GAVE_UP}
        return found if isinstance(found, dict) else {"problem": GAVE_UP}


def _measure(file: Path) -> tuple[str, int]:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest(), file.stat().st_size
