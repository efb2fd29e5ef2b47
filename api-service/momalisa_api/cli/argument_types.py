"""What the command line accepts as arguments: text, numbers, addresses and files, each refused in one sentence."""

import math
import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import urlsplit

from momalisa_api.text import is_host, is_unicode

# As in walks/spec, which is slow to import.
AUTO_SEED = "auto"
MAX_PORT = 65_535
# More digits than any number that the API accepts.
_MAX_DIGITS = 12


def text(argument: str) -> str:
    """Text that can be sent and stored. The terminal may pass bytes that are not UTF-8."""
    if not is_unicode(argument):
        raise ArgumentTypeError("must be valid UTF-8")
    return argument


def whole_number(argument: str) -> int:
    digits = argument.strip().removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_DIGITS):
        raise ArgumentTypeError("must be a whole number")
    return int(argument)


def number(argument: str) -> float:
    """A finite number: JSON has no others."""
    try:
        found = float(argument)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ArgumentTypeError("must be a number")
    return found


def number_between(least: int, most: int) -> Callable[[str], int]:
    """A type for whole numbers in a range, both ends included."""

    def number_in_range(argument: str) -> int:
        found = whole_number(argument)
        if not least <= found <= most:
            raise ArgumentTypeError(f"must be {least} to {most}")
        return found

    return number_in_range


def seed(argument: str) -> int | str:
    if argument == AUTO_SEED:
        return argument
    try:
        return whole_number(argument)
    except ArgumentTypeError:
        raise ArgumentTypeError(f"must be a whole number or {AUTO_SEED}") from None


def server_url(argument: str) -> str:
    """The address of a server: http or https, a host, perhaps a port."""
    try:
        parts = urlsplit(argument)
        fits = parts.scheme in ("http", "https") and parts.hostname and is_host(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or not argument.isprintable() or " " in argument or not is_unicode(argument):
        raise ArgumentTypeError("must be the address of a server, for example http://127.0.0.1:8000")
    return argument


def new_file(suffixes: Collection[str]) -> Callable[[str], Path]:
    """A type for files that can be written, with one of these suffixes."""

    def file(argument: str) -> Path:
        path = Path(argument)
        if path.suffix not in suffixes:
            raise ArgumentTypeError(f"the file name must end in {', '.join(suffixes)}")
        try:
            # Of a symbolic link, too: the film replaces it.
            folder = path.absolute().parent
            if path.is_dir():
                raise ArgumentTypeError(f"{path} is a folder")
            if not folder.is_dir():
                raise ArgumentTypeError(f"folder not found: {folder}")
            if not os.access(folder, os.W_OK):
                raise ArgumentTypeError(f"no permission to write to the folder {folder}")
        except OSError as error:
            raise ArgumentTypeError(f"not a usable file name: {error.strerror}") from error
        return path

    return file


def folder(argument: str) -> Path:
    """A folder that exists, or that can be created in one that exists."""
    path = Path(argument)
    try:
        if path.is_dir():
            return path
        if path.exists():
            raise ArgumentTypeError(f"{path} is not a folder")
        if not path.absolute().parent.is_dir():
            raise ArgumentTypeError(f"folder not found: {path.absolute().parent}")
    except OSError as error:
        raise ArgumentTypeError(f"not a usable folder name: {error.strerror}") from error
    return path
