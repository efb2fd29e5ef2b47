"""Finds the file in a multipart/form-data body (RFC 7578). It reads a complete body: its size is limited elsewhere."""

from email.message import Message
from email.parser import BytesHeaderParser
from mmap import mmap
from typing import Final

# RFC 2046, section 5.1.1.
MAX_BOUNDARY_CHARS: Final = 70
_MAX_HEADER_BYTES: Final = 8192


class NoFile(ValueError):
    """The body has no part with a file. str(error) says what to do."""


def boundary_of(content_type: str) -> str | None:
    """The boundary in a Content-Type of multipart/form-data; None for other types. Raises NoFile if it is missing."""
    header = Message()
    header["Content-Type"] = content_type
    if header.get_content_type() != "multipart/form-data":
        return None
    boundary = header.get_boundary("")
    if not boundary or len(boundary) > MAX_BOUNDARY_CHARS or not boundary.isascii():
        raise NoFile("The Content-Type of a form needs a valid boundary. Let your HTTP client set it.")
    return boundary


def file_in(body: bytes, boundary: str) -> bytes:
    """The content of the first part that has a file name. Raises NoFile."""
    begin, end = span_of_file(body, boundary)
    return body[begin:end]


def span_of_file(body: bytes | mmap, boundary: str) -> tuple[int, int]:
    """Where the content of the first part that has a file name begins and ends. Raises NoFile."""
    delimiter = b"\r\n--" + boundary.encode("ascii")
    # The first delimiter may begin the body.
    at = 0 if body[: len(delimiter) - 2] == delimiter[2:] else body.find(delimiter) + 2
    if at == 1:
        raise NoFile("The form does not have the boundary that its Content-Type names. Let your HTTP client set it.")
    at += len(delimiter) - 2
    while (end := body.find(delimiter, at)) != -1:
        head = body.find(b"\r\n\r\n", at, min(end, at + _MAX_HEADER_BYTES))
        if head != -1 and _has_file(body[at:head].lstrip(b"\r\n")):
            return head + 4, end
        at = end + len(delimiter)
    raise NoFile("The form is incomplete, or has no file. Send the picture or the clip as a file in it.")


def _has_file(head: bytes) -> bool:
    header = BytesHeaderParser().parsebytes(head)
    return header.get_filename() is not None
