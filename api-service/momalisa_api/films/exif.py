"""The bytes of Exif metadata with one comment, for JPEG and WebP. Reads and writes no files.

Pillow writes every comment with the type BYTE, which readers like exiftool refuse.
Source: Exif 2.32, CIPA DC-008-2019 (the section numbers below); TIFF 6.0, section 2.
"""

import struct
from typing import Final

_LONG, _UNDEFINED = 4, 7
_EXIF_IFD, _EXIF_VERSION, _USER_COMMENT = 0x8769, 0x9000, 0x9286
_HEADER: Final = b"II*\0" + struct.pack("<I", 8)
# A directory: the number of its entries of 12 bytes each, the entries, and the offset of the next directory (none).
_ENTRY: Final = "<HHI4s"
_ENDS: Final = 6


def user_comment(comment: str) -> bytes:
    """Exif in little-endian order whose UserComment is of type UNDEFINED and begins with its character code (4.6.5)."""
    value = b"UNICODE\0" + comment.encode("utf-16-le")
    exif_at = len(_HEADER) + _ENDS + struct.calcsize(_ENTRY)
    value_at = exif_at + _ENDS + 2 * struct.calcsize(_ENTRY)
    first = _directory((_EXIF_IFD, _LONG, 1, struct.pack("<I", exif_at)))
    exif = _directory(
        (_EXIF_VERSION, _UNDEFINED, 4, b"0232"),
        (_USER_COMMENT, _UNDEFINED, len(value), struct.pack("<I", value_at)),
    )
    return b"Exif\0\0" + _HEADER + first + exif + value


def _directory(*entries: tuple[int, int, int, bytes]) -> bytes:
    packed = b"".join(struct.pack(_ENTRY, *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + packed + struct.pack("<I", 0)
