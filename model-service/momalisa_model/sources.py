"""Where weights come from, as a setting names it: a path or an id on the hub. Touches neither disk nor network."""

from __future__ import annotations

from dataclasses import dataclass

# A path that begins like this may contain @.
PATH_STARTS = ("/", ".")
LARGEST_WEIGHT = 100


@dataclass(frozen=True)
class Source:
    """One entry of MODEL_VAE or MODEL_ADAPTERS.

    place: the path of a folder or a file; or owner/name on the hub, which the path of a file or folder in it may
    follow. revision: a commit, branch or tag of the hub. weight: how much of a LoRA is added.
    """

    place: str
    revision: str | None = None
    weight: float | None = None

    def __str__(self) -> str:
        """The entry that is parsed to this source."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.place}{revision}" + ("" if self.weight is None else f":{self.weight}")

    @property
    def on_hub(self) -> tuple[str, str] | None:
        """The repository and the path in it, which may be empty; None if this is no id on the hub."""
        owner, _, rest = self.place.partition("/")
        name, _, inner = rest.partition("/")
        return None if self.place.startswith(PATH_STARTS) or not (owner and name) else (f"{owner}/{name}", inner)


def parse_source(text: str) -> Source:
    """The source of PLACE[@REVISION][:WEIGHT]. Raises ValueError if a part of it is empty or no number."""
    place, colon, number = text.strip().rpartition(":")
    weight = None
    if not colon or "/" in number:
        place = text.strip()
    elif (weight := _number(number)) is None:
        raise ValueError(f"the weight of {place} must be a number from -100 to 100, as in {place}:0.8")
    revision = None
    if not place.startswith(PATH_STARTS):
        place, at, revision = place.partition("@")
        revision = revision if at else None
    if not place or revision == "":
        raise ValueError(f"{text!r} must be a path or a hub id, as in owner/name@revision:0.8")
    return Source(place, revision, weight)


def parse_sources(text: str) -> tuple[Source, ...]:
    """The sources of a list with commas. Raises what parse_source raises."""
    return tuple(parse_source(entry) for entry in text.split(",") if entry.strip())


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number + 0.0 if abs(number) <= LARGEST_WEIGHT else None  # -0.0 becomes 0.0, and NaN is refused
