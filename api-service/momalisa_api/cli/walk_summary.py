"""What a command prints about the walk that it has saved."""

from pathlib import Path
from typing import Any


def summary(walk: dict[str, Any], out: Path) -> str:
    """One line about a saved walk, and a second one with the link of a private walk."""
    seed = "" if walk["seed"] is None else f", seed {walk['seed']}"
    link = walk.get("link")
    shared = (
        f"\nPrivate. Whoever has this link can open it until {link['expires_at'][:10]}: {link['url']}" if link else ""
    )
    return f"{out}: {walk['spec']['frames']} frames, {_shows(walk)}{seed}{_smoothness(walk)}{shared}"


def _shows(walk: dict[str, Any]) -> str:
    spec = walk["spec"]
    match walk.get("kind", "between"):
        case "into":
            return f"into a picture, {spec['motion']}"
        case "restyle":
            return f"a picture in another style: {_style(spec)}"
        case "clip":
            return f"a clip in another style: {_style(spec)}"
        case "apart":
            return "a picture taken apart"
        case _:
            return " -> ".join(map(_title, spec["stops"]))


def _style(spec: dict[str, Any]) -> str:
    return str(spec.get("style") or spec.get("prompt") or "that of a picture")


def _title(stop: str | dict[str, Any]) -> str:
    return stop if isinstance(stop, str) else stop["prompt"] or "a picture"


def _smoothness(walk: dict[str, Any]) -> str:
    found = walk["smoothness"]
    # How the other kinds move is up to the picture or the clip.
    if walk.get("kind", "between") != "between" or not found or found["evenness"] is None:
        return ""
    return f", evenness {found['evenness']:.2f}, sharpness {found['sharpness'] or 0:.2f}"
