"""The errors of commands."""


class CommandError(Exception):
    """A command cannot go on. str(error) is a message for people, `exit_code` a code for scripts."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
