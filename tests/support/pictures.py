"""Pictures as files, in many formats, and a seeded mutator of them."""

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as a file of a kind that Pillow writes."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def scene(width: int = 64, height: int = 48) -> Image.Image:
    """A picture whose corners differ: red, green, blue, and white at the bottom right."""
    picture = Image.new("RGB", (width, height), "white")
    half = (width // 2, height // 2)
    picture.paste((255, 0, 0), (0, 0, *half))
    picture.paste((0, 255, 0), (half[0], 0, width, half[1]))
    picture.paste((0, 0, 255), (0, half[1], half[0], height))
    return picture


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(width: int, height: int, *chunks: bytes, bits: int = 8, colour: int = 2) -> bytes:
    """A PNG with a size in its header, and some chunks after that; it has no pixels unless the chunks bring them."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IEND", b"")


def swapped_profile() -> bytes:
    """An ICC profile in which red and green are swapped: whoever ignores it shows wrong colours."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = {}
    for number in range(struct.unpack(">I", content[128:132])[0]):
        entry = 132 + 12 * number
        at[bytes(content[entry : entry + 4])] = entry + 4
    red, green = at[b"rXYZ"], at[b"gXYZ"]
    content[red : red + 8], content[green : green + 8] = content[green : green + 8], content[red : red + 8]
    return bytes(content)


def mutated(content: bytes, dice: random.Random) -> bytes:
    """A damaged copy of a file: bytes changed, cut out, repeated or inserted, sizes made extreme, the end lost."""
    damaged = bytearray(content)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(damaged))
        match dice.randrange(6):
            case 0:
                damaged[at] = dice.randrange(256)
            case 1:
                damaged[at : at + 4] = dice.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\1\0"])
            case 2:
                del damaged[at : at + dice.randint(1, 64)]
            case 3:
                damaged[at:at] = damaged[at : at + dice.randint(1, 64)]
            case 4:
                damaged[at:at] = dice.randbytes(dice.randint(1, 16))
            case 5:
                del damaged[max(at, 16) :]
        damaged = damaged or bytearray(b"\0")
    return bytes(damaged)


def landscape(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture like a photograph: a sky, hills one behind the other, a sun, and grain."""
    dice = np.random.default_rng(seed)
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    sky, haze = dice.uniform((40, 80, 140), (120, 160, 230)), dice.uniform((200, 170, 130), (255, 220, 190))
    picture = sky + (haze - sky) * down[..., None] ** 0.7
    distance = np.hypot(across - dice.uniform(0.2, 0.8), (down - 0.3) * height / width)
    picture += np.array([80, 60, 20]) * np.exp(-((distance / 0.12) ** 2))[..., None]
    for hill in range(4):
        waves = [dice.uniform(0.02, 0.06) * np.sin((n + 1) * 5 * across + dice.uniform(0, 6)) for n in range(3)]
        ridge = 0.45 + 0.13 * hill + sum(waves)
        shade = haze * (0.75 - 0.17 * hill) * dice.uniform(0.6, 1.0, 3)
        # The edge is as soft as that of a lens.
        inside = np.clip((down - ridge) * height / 1.5 + 0.5, 0, 1)[..., None]
        picture += (shade - picture) * inside
    picture += dice.normal(0, 3, picture.shape)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def psnr(one: Image.Image, other: Image.Image) -> float:
    """The peak signal-to-noise ratio of two pictures of one size, in dB."""
    difference = np.asarray(one.convert("RGB"), float) - np.asarray(other.convert("RGB"), float)
    return float(10 * np.log10(255**2 / max((difference**2).mean(), 1e-9)))
