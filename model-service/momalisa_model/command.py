"""The command `momalisa-model` with its libraries: their import may fail for what the environment says."""

from __future__ import annotations

import sys


def run_command() -> None:
    """Run `momalisa-model`. Exits with status 1 and a message if its libraries cannot be loaded."""
    try:
        from momalisa_model.app import main
    except (ImportError, OSError, ValueError) as error:
        # HF_HUB_DOWNLOAD_TIMEOUT=soon, for example.
        sys.exit(f"momalisa-model: its libraries cannot be loaded: {error}. Check the variables HF_… and TORCH_….")
    main()


if __name__ == "__main__":
    run_command()
