"""The bytes of an animated GIF: one palette per frame, and blocks that can be reused. Reads and writes no files.

Every frame is complete and has its own colour table, so that its block can be anywhere in the film: the way back
consists of the same blocks as the way there. Pillow encodes the pixels, whether PyAV is installed or not.
Source: GIF89a specification, CompuServe, 1990 (the section numbers below); loop block: Netscape Navigator 2.0, 1995.
"""

import io
import math
import struct
from collections.abc import Iterator

from PIL import Image

from momalisa_api.films.provenance import gif_block

_TABLE_COLOURS = 256
_SAMPLE_SIDE_PX = 48
_LARGE_PX = 256 * 256  # from here on a round costs little beside the rest, and gains 0.1 to 0.4 dB
_SHORTEST_DELAY_CS = 2  # browsers turn 1 into 10

TRAILER = b";"


def delay_cs(frame_ms: int) -> int:
    """Round a frame's time to the centiseconds that a GIF counts in: 2 at least."""
    return max(_SHORTEST_DELAY_CS, round(frame_ms / 10))


def delay_between(begin_s: float, end_s: float) -> int:
    """The same for a frame that is shown from one time to another: its error is not added to that of the others."""
    return max(_SHORTEST_DELAY_CS, round(end_s * 100) - round(begin_s * 100))


def header(size: tuple[int, int], comment: str, xmp: bytes) -> bytes:
    """The blocks before the first frame: size in pixels, endless loop, XMP, comment (sections 17, 18, 24, 26)."""
    screen = b"GIF89a" + struct.pack("<HHBBB", *size, 0x70, 0, 0)
    loop = b"!\xff\x0bNETSCAPE2.0" + b"\x03\x01\x00\x00\x00"
    return screen + loop + gif_block(xmp) + b"!\xfe" + b"".join(_sub_blocks(comment.encode()))


def image_block(picture: Image.Image, delay: int) -> bytes:
    """Encode one frame with its own colour table (sections 20 to 23).

    picture: mode RGB; delay: centiseconds. The pixel data are Pillow's, taken out of a GIF of this one frame.
    """
    single = io.BytesIO()
    quantize(picture).save(single, "GIF", optimize=False, interlace=0)
    encoded = single.getvalue()
    size_bits = encoded[10] & 0x07
    table_end = 13 + 3 * (2 << size_bits)
    descriptor_at = encoded.index(b",", table_end)
    descriptor = encoded[descriptor_at : descriptor_at + 9] + bytes([0x80 | size_bits])
    control = b"!\xf9\x04" + struct.pack("<BHB", 0x04, delay, 0) + b"\x00"
    return control + descriptor + encoded[13:table_end] + encoded[descriptor_at + 10 : -1]


def quantize(picture: Image.Image) -> Image.Image:
    """Reduce an RGB picture to its own palette of at most 256 colours. A picture with fewer colours stays exact.

    Without dithering, whose grain flickers in moving pictures and costs 1 to 3 dB and up to three quarters more bytes.
    """
    if picture.getcolors(_TABLE_COLOURS):
        return picture.quantize(_TABLE_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return picture.quantize(palette=_palette(picture), dither=Image.Dither.NONE)


def _palette(picture: Image.Image) -> Image.Image:
    """Choose 256 colours for an RGB picture.

    An octree over every pixel misses no small spot of colour, but its fixed grid is coarse in muted pictures and leaves
    entries free: pixels of the picture fill them. One or two rounds of Lloyd's algorithm move each colour to the mean
    of its pixels. Source: Gervautz and Purgathofer, 1988; Lloyd, 1982.
    """
    octree = picture.quantize(_TABLE_COLOURS, Image.Quantize.FASTOCTREE)
    used = sum(1 for count in octree.histogram() if count)
    colours = (octree.getpalette() or [])[: 3 * used]
    colours += _grid(picture, math.isqrt(_TABLE_COLOURS - used)).tobytes()
    octree.putpalette(colours)
    sample = _grid(picture, _SAMPLE_SIDE_PX)
    for _ in range(2 if picture.width * picture.height > _LARGE_PX else 1):
        octree.putpalette(_centred(sample, octree))
    return octree


def _grid(picture: Image.Image, side: int) -> Image.Image:
    """Pick side x side pixels out of a picture, evenly, none of them mixed."""
    return picture.resize((side, side), Image.Resampling.NEAREST) if side else Image.new("RGB", (0, 0))


def _centred(sample: Image.Image, palette: Image.Image) -> list[int]:
    """Move each colour of a palette to the mean of the sample's pixels nearest to it; one that has none stays."""
    colours = palette.getpalette() or []
    nearest = sample.quantize(palette=palette, dither=Image.Dither.NONE)
    counts, indices, pixels = nearest.histogram(), nearest.tobytes(), sample.tobytes()
    for channel in range(3):
        sums = [0] * _TABLE_COLOURS
        for index, value in zip(indices, pixels[channel::3], strict=True):
            sums[index] += value
        for index, (count, total) in enumerate(zip(counts, sums, strict=True)):
            if count:
                colours[3 * index + channel] = round(total / count)
    return colours


def _sub_blocks(data: bytes) -> Iterator[bytes]:
    """Cut data into sub-blocks of at most 255 bytes, each after its length, and close them (section 15)."""
    for start in range(0, len(data), 255):
        piece = data[start : start + 255]
        yield bytes([len(piece)]) + piece
    yield b"\x00"
