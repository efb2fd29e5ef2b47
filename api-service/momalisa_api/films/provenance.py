"""The bytes that say in a file that its pictures are synthetic: an XMP packet, for each format. No input or output.

Sources: IPTC Photo Metadata Standard 2025.1, Digital Source Type; XMP specification part 3, Adobe, 2020 (the section
numbers below); PNG, third edition, W3C, 2025.
"""

import struct
from collections.abc import Collection
from enum import StrEnum
from typing import Final
from uuid import UUID
from zlib import crc32

_TERMS: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_MP4_UUID: Final = UUID("be7acfcb-97a9-42e8-9c71-999491e3afac")
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
# The signature, and the chunk IHDR, which comes first.
_PNG_START: Final = len(_PNG_SIGNATURE) + 25
_PACKET: Final = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <Iptc4xmpExt:DigitalSourceType>{}</Iptc4xmpExt:DigitalSourceType>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


class DigitalSource(StrEnum):
    """Terms of IPTC's vocabulary of digital source types."""

    TRAINED = f"{_TERMS}trainedAlgorithmicMedia"
    COMPOSITE = f"{_TERMS}compositeWithTrainedAlgorithmicMedia"


def source_of(pictures: Collection[object]) -> DigitalSource:
    """Where frames or films come from. pictures: of visitors, that went into them."""
    return DigitalSource.COMPOSITE if pictures else DigitalSource.TRAINED


def xmp_of(source: DigitalSource) -> bytes:
    """The XMP packet in UTF-8, which says nothing else."""
    return _PACKET.format(source).encode()


def png_with_xmp(png: bytes, xmp: bytes) -> bytes:
    """A PNG file with the packet in a chunk of its own (1.1.5); the pixels' bytes stay. Other files are unchanged."""
    if not png.startswith(_PNG_SIGNATURE):
        return png
    # Not compressed, without language and translated keyword.
    content = b"iTXt" + b"XML:com.adobe.xmp\0" + b"\0\0" + b"\0" + b"\0" + xmp
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", crc32(content))
    return png[:_PNG_START] + chunk + png[_PNG_START:]


def gif_block(xmp: bytes) -> bytes:
    """An application extension with the packet (1.1.2). Its trailer leads decoders that count sub-blocks to the end."""
    return b"!\xff\x0bXMP DataXMP" + xmp + b"\x01" + bytes(range(255, -1, -1)) + b"\0"


def mp4_box(xmp: bytes) -> bytes:
    """A box with the packet, for the end of a file, where it moves no other box (1.2.7)."""
    return struct.pack(">I4s", 24 + len(xmp), b"uuid") + _MP4_UUID.bytes + xmp
