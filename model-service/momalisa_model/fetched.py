"""The records of what `momalisa-model fetch` has put into folders: files, and the commit that they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from momalisa_model.problems import DownloadFailed

FETCHED = "fetched.json"
DEFAULT_BRANCH = "main"
# In the folder of a model: a folder for each repository of its adapters and of its other VAE.
ADDITIONS = "additions"


class FetchedFile(BaseModel):
    """A file as it was verified."""

    bytes: int
    sha256: str


class Fetched(BaseModel):
    """The content of fetched.json. wanted: the revision in the recipe, such as a branch. revision: its commit."""

    model_config = ConfigDict(protected_namespaces=())

    model_id: str
    wanted: str | None = None
    revision: str
    files: dict[str, FetchedFile]

    def fits(self, model_id: str, wanted: str | None) -> bool:
        """Whether this is the model at the revision that a recipe names. A branch stays at its commit."""
        named = {self.revision, self.wanted or DEFAULT_BRANCH}
        return model_id == self.model_id and (wanted or DEFAULT_BRANCH) in named


def read_fetched(folder: Path) -> Fetched | None:
    """The record of a folder; None if it has none. No weights are read, but each file's size is compared.

    Raises DownloadFailed if the record is damaged, or if a file is missing or has another size.
    """
    try:
        record = Fetched.model_validate_json((folder / FETCHED).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise DownloadFailed(
            f"The {FETCHED} of {folder.name} cannot be read. Run `momalisa-model fetch` again."
        ) from error
    for name, file in record.files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else 0
        if size != file.bytes:
            raise DownloadFailed(
                f"{name} of {folder.name} has {size} of {file.bytes} bytes. Run `momalisa-model fetch` again."
            )
    return record


@dataclass(frozen=True)
class Part:
    """What a recipe needs of one repository on the hub: the paths that begin like this, in a folder of their own."""

    model_id: str
    wanted: str | None
    folder: Path
    starts: tuple[str, ...] = ("",)

    @property
    def source(self) -> tuple[str, str | None]:
        """The repository and the revision that the recipe names."""
        return self.model_id, self.wanted

    @property
    def record(self) -> Fetched | None:
        """The record if it has this part; else None. Raises what read_fetched raises."""
        found = read_fetched(self.folder)
        if not found or not found.fits(self.model_id, self.wanted):
            return None
        return found if all(any(name.startswith(start) for name in found.files) for start in self.starts) else None


def addition_folder(home: Path, repository: str) -> Path:
    """Where files of a repository are that are added to the model in a folder."""
    return home / ADDITIONS / repository.replace("/", "--")


def origin_of(path: Path) -> tuple[str, str] | None:
    """The id on the hub, with the path in it, and the commit of a fetched file or folder; None for others."""
    for folder in (path, *path.parents):
        if folder.parent.name == ADDITIONS and (record := read_fetched(folder)):
            inner = path.relative_to(folder).as_posix()
            return (record.model_id if path == folder else f"{record.model_id}/{inner}"), record.revision
    return None
