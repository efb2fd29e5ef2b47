"""`momalisa replay`: the walk of a film, from the spec that the film carries."""

from pathlib import Path
from typing import Any, Final

from momalisa_api.cli.errors import CommandError
from momalisa_api.cli.walk_options import OF_SPEC
from momalisa_api.films.metadata import NoSpec, read_spec
from momalisa_api.walks.kinds import BETWEEN
from momalisa_api.walks.spec import read_forward

NOT_OF_THE_SPEC: Final = ("version", "fractions", "early_legs", "fingerprints", "smoothness")


def spec_of(film: Path) -> dict[str, Any]:
    """The spec in a film. Raises CommandError if there is none."""
    try:
        carried = read_spec(film)
    except NoSpec as error:
        raise CommandError(
            f"{film} carries no walk. Use a GIF, MP4 or poster that MoMALisa made; editing may remove the metadata.", 2
        ) from error
    except OSError as error:
        raise CommandError(f"Could not read {film}: {error.strerror or error}.", 2) from error
    try:
        # The films of the first releases have no version.
        spec = read_forward(carried, carried.get("version", 1))
    except ValueError as error:
        raise CommandError(f"{film} is a film of a newer release ({error}). Install that release.", 2) from error
    return {name: value for name, value in spec.items() if name not in NOT_OF_THE_SPEC}


def request_of(spec: dict[str, Any]) -> dict[str, Any]:
    """The body of a request for the same walk. Raises CommandError if it needs uploads: a film does not carry them."""
    if (kind := spec["kind"]) != BETWEEN:
        raise CommandError(
            f"The film was made from a visitor's upload, which it does not carry. Use `momalisa {kind}` with the file, "
            "and with the settings that --show prints.",
            2,
        )
    pictures = sum(isinstance(stop, dict) for stop in spec["stops"])
    if pictures:
        raise CommandError(
            f"The film was made from {pictures} of a visitor's pictures, which it does not carry. Use `momalisa walk` "
            "with the files of the pictures, and with the prompts and settings that --show prints.",
            2,
        )
    return {name: spec[name] for name in OF_SPEC if spec.get(name) is not None}
