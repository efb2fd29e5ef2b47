"""The record of a model that `momalisa-model fetch` has put into a folder: its files, and the commit that they are."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from momalisa_model.problems import DownloadFailed

FETCHED = "fetched.json"
DEFAULT_BRANCH = "main"


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
