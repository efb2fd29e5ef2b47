"""The bytes of a ZIP archive of stored files. Its size is known before any file is read, and any part can be made.

A few files are in memory at a time, however many there are. Reads and writes nothing itself.
Source: APPNOTE.TXT 6.3.10, PKWARE, 2022 (the section numbers below).
"""

import struct
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from itertools import accumulate, pairwise
from typing import Final
from zlib import crc32

from momalisa_api.films.read_ahead import Read, read_ahead

# Files that are in memory at a time.
ENTRIES_AHEAD: Final = 4
# Archives whose checksums are kept.
RECENT: Final = 100
_VERSION: Final = 20  # to extract: stored files
_VERSION_64: Final = 45
_UTF8: Final = 0x800
_MIDNIGHT: Final = 0
_JANUARY_1980: Final = (1 << 5) | 1
_MOST_16: Final = 0xFFFF
_MOST_32: Final = 0xFFFFFFFF
_LOCAL_HEADER_BYTES: Final = 30


class Checksums:
    """The checksums of files in recent archives, so that a continued download reads only what is missing."""

    def __init__(self) -> None:
        self._known: dict[str, dict[int, int]] = {}

    def of(self, version: str) -> dict[int, int]:
        """Those of an archive by number, to be added to. version: other files have another one."""
        known = self._known[version] = self._known.pop(version, {})
        if len(self._known) > RECENT:
            del self._known[next(iter(self._known))]
        return known


class Archive:
    """An archive of files with these names and sizes in bytes, in this order. Equal files give equal archives."""

    def __init__(self, entries: Sequence[tuple[str, int]], ahead: int = ENTRIES_AHEAD) -> None:
        """ahead: how many files are in memory at a time."""
        self._ahead = ahead
        self._names = [name.encode() for name, _ in entries]
        self._sizes = [size for _, size in entries]
        # Where each entry begins, and after the last one the directory.
        lengths = (_LOCAL_HEADER_BYTES + len(name) + size for name, (_, size) in zip(self._names, entries, strict=True))
        self._starts = [0, *accumulate(lengths)]
        self.size = self._starts[-1] + len(self._directory(dict.fromkeys(range(len(entries)), 0)))

    async def part(self, first: int, last: int, read: Read, checksums: dict[int, int]) -> AsyncGenerator[bytes]:
        """The bytes from `first` to `last`, both included, in chunks.

        read: the content of an entry, by its number; each is read at most once, `ahead` at a time. checksums:
        those that are known, by number; new ones are added. The directory at the end has the checksums of all files, so
        a part with the end reads every file whose checksum is not known.
        """
        start = self._starts[-1]
        spans = list(enumerate(pairwise(self._starts)))
        wanted = [number for number, (at, end) in spans if first < end and at <= last]
        unknown = set(range(len(spans))).difference(wanted, checksums) if last >= start else ()
        numbers = [*wanted, *sorted(unknown)]
        async with aclosing(read_ahead(read, numbers, self._ahead)) as contents:
            for number in numbers:
                content = await anext(contents)
                checksums[number] = crc32(content)
                if number in wanted:
                    entry = self._header(number, checksums[number]) + content
                    at = self._starts[number]
                    yield entry[max(0, first - at) : max(0, last + 1 - at)]
        if last >= start:
            yield self._directory(checksums)[max(0, first - start) : last + 1 - start]

    def _header(self, number: int, checksum: int) -> bytes:
        """The local header of an entry (section 4.3.7)."""
        return b"PK\3\4" + struct.pack("<H", _VERSION) + self._facts(number, checksum) + self._names[number]

    def _facts(self, number: int, checksum: int, extra_bytes: int = 0) -> bytes:
        """What both headers of an entry have: flags, method 0, date, checksum, sizes, and lengths of name and extra."""
        size, name = self._sizes[number], self._names[number]
        dated = (_UTF8, 0, _MIDNIGHT, _JANUARY_1980)
        return struct.pack("<HHHHIIIHH", *dated, checksum, size, size, len(name), extra_bytes)

    def _directory(self, checksums: Mapping[int, int]) -> bytes:
        """The central directory and its end, in the ZIP64 format where that is needed (sections 4.3.12 to 4.3.16)."""
        records = b"".join(self._record(number, checksums[number]) for number in range(len(self._names)))
        count, size, start = len(self._names), len(records), self._starts[-1]
        end = b""
        if count >= _MOST_16 or start >= _MOST_32:
            whole = struct.pack("<QHHIIQQQQ", 44, _VERSION_64, _VERSION_64, 0, 0, count, count, size, start)
            end = b"PK\6\6" + whole + b"PK\6\7" + struct.pack("<IQI", 0, start + size, 1)
        least = (min(count, _MOST_16), min(count, _MOST_16), min(size, _MOST_32), min(start, _MOST_32))
        return records + end + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, *least, 0)

    def _record(self, number: int, checksum: int) -> bytes:
        """An entry of the central directory (section 4.3.12), with a ZIP64 field if it begins beyond 4 GiB (4.5.3)."""
        start = self._starts[number]
        extra = struct.pack("<HHQ", 1, 8, start) if start >= _MOST_32 else b""
        versions = struct.pack("<HH", _VERSION, _VERSION_64 if extra else _VERSION)
        rest = struct.pack("<HHHII", 0, 0, 0, 0, min(start, _MOST_32))
        facts = self._facts(number, checksum, len(extra))
        return b"PK\1\2" + versions + facts + rest + self._names[number] + extra
