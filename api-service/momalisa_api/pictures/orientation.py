"""How players show the frames of a clip: turned or mirrored by its display matrix. Reads no files.

Source: ISO/IEC 14496-12, section 6.2.2 (matrix); FFmpeg's libavutil/display.h (its order in memory).
"""

import struct
from typing import Any, Final

from av import VideoFrame
from av.sidedata.sidedata import Type
from PIL.Image import Transpose

_MATRIX: Final = struct.Struct("9i")
# By where the matrix puts a step to the right and a step down: (x, y) of the first, (x, y) of the second.
_TRANSPOSES: Final = {
    (1, 0, 0, 1): None,
    (-1, 0, 0, 1): Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Transpose.ROTATE_180,
    (0, 1, 1, 0): Transpose.TRANSPOSE,
    (0, -1, -1, 0): Transpose.TRANSVERSE,
    (0, 1, -1, 0): Transpose.ROTATE_270,
    (0, -1, 1, 0): Transpose.ROTATE_90,
}
_SIDEWAYS: Final = (Transpose.TRANSPOSE, Transpose.TRANSVERSE, Transpose.ROTATE_90, Transpose.ROTATE_270)


def transpose_of(frame: VideoFrame) -> Transpose | None:
    """What turns a decoded frame upright; None: nothing. Of an oblique matrix, the nearest that keeps pixels whole."""
    # PyAV declares another type than it has.
    side_data: Any = frame.side_data
    found = side_data.get(Type.DISPLAYMATRIX)
    if found is None or len(content := bytes(found)) < _MATRIX.size:
        return None
    a, b, _, c, d, *_ = _MATRIX.unpack_from(content)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return _TRANSPOSES[_sign(a), 0, 0, _sign(d)]
    return _TRANSPOSES[0, _sign(b), _sign(c), 0]


def is_sideways(transpose: Transpose | None) -> bool:
    """Whether width and height change places."""
    return transpose in _SIDEWAYS


def _sign(number: int) -> int:
    return -1 if number < 0 else 1
