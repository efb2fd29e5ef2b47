"""The command `momalisa-model`. It imports nothing slow before it can end quietly at Ctrl-C."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> None:
    """Run the command, as `arguments.run_command` says.

    Exits with status 130 and one line at Ctrl-C, also during imports.
    """
    try:
        from momalisa_model.arguments import run_command

        run_command(arguments)
    except KeyboardInterrupt:
        print("momalisa-model: stopped", file=sys.stderr)
        sys.exit(130)  # as a shell reports it


if __name__ == "__main__":
    main()
