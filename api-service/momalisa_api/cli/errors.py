"""The errors of commands, and text for terminals."""

import unicodedata


class CommandError(Exception):
    """A command cannot go on. str(error) is a message for people, `exit_code` a code for scripts."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def printable(text: str) -> str:
    """Text with control characters as escapes: a server or a film must not change the terminal."""
    return "".join(each if each == "\n" or unicodedata.category(each) != "Cc" else ascii(each)[1:-1] for each in text)
