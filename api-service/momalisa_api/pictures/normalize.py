"""From the bytes that a visitor sends to a plain picture: upright, opaque, sRGB, bounded. Runs in the decoder only."""

import io
import warnings
from typing import Final

# The plug-ins are imported by name, as Pillow would import all of its plug-ins to find one.
from PIL import (
    AvifImagePlugin,
    GifImagePlugin,  # noqa: F401
    Image,
    ImageCms,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

PICTURE_FORMATS: Final = ("JPEG", "PNG", "WEBP", "AVIF", "GIF")
MAX_PICTURE_PIXELS: Final = 40_000_000
LONGEST_SIDE: Final = 2048
_ORIENTATION_TAG: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
# 65,535 becomes 255.
_16_TO_8_BITS: Final = 1 / 257

# A thread of the AV1 decoder reserves address space, which is limited.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
# The size is checked here, with a lower limit and a message of its own.
Image.MAX_IMAGE_PIXELS = None


class UnreadablePicture(ValueError):
    """The bytes are no picture that can be used. str(error) says why, and what to do."""


def normalized(content: bytes) -> Image.Image:
    """The first frame of a picture: upright, opaque on white, in sRGB, its longer side at most `LONGEST_SIDE` pixels.

    Returns mode RGB, without metadata. Raises UnreadablePicture, and MemoryError within a limit on memory.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            return _normalized(content)
    except (UnreadablePicture, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise UnreadablePicture(_why_unidentified(content)) from error
    except Exception as error:
        # Each of the decoders has errors of its own for damaged files.
        raise UnreadablePicture("The picture is damaged or incomplete. Save it again, and send that file.") from error


def _normalized(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content), formats=PICTURE_FORMATS) as opened:
        _check_size(*opened.size)
        profile, orientation = opened.info.get("icc_profile"), _orientation(opened)
        # Made smaller first: what follows needs a fraction of the memory. A JPEG is decoded at a smaller scale.
        picture = _resizable(opened)
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
        picture = _in_srgb(_on_white(picture), profile)
    if orientation in _UPRIGHT:
        picture = picture.transpose(_UPRIGHT[orientation])
    plain = Image.new("RGB", picture.size)
    plain.paste(picture)
    return plain


def _check_size(width: int, height: int) -> None:
    if not width or not height:
        raise UnreadablePicture("The picture has no pixels. Send another one.")
    if width * height > MAX_PICTURE_PIXELS:
        raise UnreadablePicture(
            f"The picture has {width:,} x {height:,} pixels, and {MAX_PICTURE_PIXELS:,} are allowed. Make it smaller."
        )


def _orientation(picture: Image.Image) -> int:
    """The Exif orientation; 1 (upright) if the Exif data is damaged, which cameras' tools often leave behind."""
    try:
        return int(picture.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        return 1


def _resizable(picture: Image.Image) -> Image.Image:
    """The picture in one of the modes L, RGB, CMYK, and RGBA, which can be resized."""
    if picture.mode.startswith(("I", "F")):
        return picture.convert("I").point(lambda value: value * _16_TO_8_BITS + 0).convert("L")
    if "transparency" in picture.info or picture.mode in ("P", "PA", "LA", "La", "RGBa"):
        return picture.convert("RGBA")
    return picture if picture.mode in ("L", "RGB", "CMYK", "RGBA") else picture.convert("RGB")


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode != "RGBA":
        return picture
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    return white.convert("RGB")


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """The picture in sRGB. A damaged profile, or one for other channels, is ignored, as browsers do."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
    return picture.convert("RGB")


def _why_unidentified(content: bytes) -> str:
    if content[4:8] == b"ftyp" and content[8:12] in _HEIC_BRANDS:
        return "HEIC pictures cannot be read here. Export it as JPEG, and send that file."
    if not content:
        return "The file is empty. Send a JPEG, PNG, WebP, AVIF or GIF."
    return "This is not a picture that can be read. Send a JPEG, PNG, WebP, AVIF or GIF."
