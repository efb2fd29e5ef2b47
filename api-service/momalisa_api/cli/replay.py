"""`momalisa replay`: the walk of a film, from the spec that the film carries."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from momalisa_api.cli.errors import CommandError
from momalisa_api.cli.walk_options import OF_KIND, OF_SPEC
from momalisa_api.films.metadata import NoSpec, read_spec
from momalisa_api.walks.kinds import BETWEEN
from momalisa_api.walks.spec import SPEC_VERSION, read_forward, spec_from_stored

NOT_OF_THE_SPEC: Final = ("version", "fractions", "early_legs", "fingerprints", "smoothness")


def spec_of(film: Path) -> dict[str, Any]:
    """The spec in a film of any kind. Raises CommandError if there is none."""
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
    found = {name: value for name, value in spec.items() if name not in NOT_OF_THE_SPEC}
    if found["kind"] != BETWEEN:
        try:
            spec_from_stored(found, SPEC_VERSION)
        except ValueError as error:
            raise CommandError(f"{film} carries no walk that this release can read: {error}", 2) from error
    return found


def request_of(spec: dict[str, Any]) -> dict[str, Any]:
    """The body of a request for the same walk."""
    kind = spec["kind"]
    if kind == BETWEEN:
        return _given(spec, OF_SPEC)
    names = [*OF_KIND[kind], "model"]
    if kind != "clip":
        names += ["gif_there_and_back", "mp4_there_and_back"]
    return {"kind": kind, "size": max(spec["width"], spec["height"]), **_given(spec, names)}


def check_uploads(url: str, spec: dict[str, Any]) -> None:
    """Raises CommandError if the walk needs pictures or a clip that a server does not keep for the caller."""
    from momalisa_api.cli import client

    if lost := client.missing(url, _uploads(spec)):
        command = "walk" if spec["kind"] == BETWEEN else spec["kind"]
        names = " and ".join(path.removeprefix("/api/v1/").replace("s/", " ") for path in lost)
        raise CommandError(
            f"The film was made from uploads, which it does not carry: the server at {url} does not keep {names} for "
            f"you. Use `momalisa {command}` with the files, and with the settings that --show prints.",
            2,
        )


def _uploads(spec: dict[str, Any]) -> list[str]:
    """Where the API has the uploads that a walk is made of."""
    shown = [*spec.get("stops", ()), spec.get("picture"), spec.get("style_picture")]
    pictures = dict.fromkeys(each["picture"] for each in shown if isinstance(each, dict))
    clips = [spec["clip"]] if spec.get("clip") else []
    return [*(f"/api/v1/pictures/{each}" for each in pictures), *(f"/api/v1/clips/{each}" for each in clips)]


def _given(spec: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: spec[name] for name in names if spec.get(name) is not None}
