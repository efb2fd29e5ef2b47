"""What decides the pixels of a frame beside its fraction: what the recipes of all kinds of walks share. Pure."""

import hashlib
import json
from functools import cached_property
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from momalisa_api.walks.kinds import WalkKind
from momalisa_api.walks.model_card import ModelKey
from momalisa_api.walks.stops import CroppedPicture


def digest(content: Any) -> str:
    """32 hex digits that identify a JSON value, independent of the order of its keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


class Rendered(BaseModel):
    """What specs and recipes of all kinds have: the size of frames, the weights that render them, and their scope."""

    # Errors are logged, and the input has prompts.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    width: int = Field(description="Width of a frame, in pixels.")
    height: int = Field(description="Height of a frame, in pixels.")
    model: str = Field(description="The model's id.")
    revision: str = Field(description="The model's revision.")
    # Excluded from every dump: it is a secret of the deployment, and only ids and stored specs have it.
    scope: str | None = Field(None, exclude=True, pattern="^[0-9a-f]{32}$")

    @property
    def model_key(self) -> ModelKey:
        """The weights that render it."""
        return ModelKey(self.model, self.revision)


class Recipe(Rendered):
    """Everything but the fraction that decides a frame's pixels. Each kind of walk has its own."""

    # Fields that are part of contents, and so of ids, only while they do not have their defaults.
    later: ClassVar[frozenset[str]] = frozenset({"scope"})

    kind: WalkKind = Field(description="The kind of the walk.")

    @cached_property
    def id(self) -> str:
        """32 hex digits: equal contents have equal ids, on every deployment."""
        return digest(self.content)

    @property
    def content(self) -> dict[str, Any]:
        """All fields, except later ones that have their defaults: older releases and replicas do not know them."""
        fields = type(self).model_fields
        default = {name for name in self.later if getattr(self, name) == fields[name].default}
        secret = {} if self.scope is None else {"scope": self.scope}
        return self.model_dump(exclude=default) | secret

    @property
    def pictures(self) -> tuple[CroppedPicture, ...]:
        """The different pictures of visitors that its frames are made of."""
        return ()

    @property
    def clips(self) -> tuple[str, ...]:
        """The ids of the clips that its frames are made of."""
        return ()

    @property
    def search_terms(self) -> tuple[str, ...]:
        """What the search terms of each walk with this recipe contain, one after the other."""
        return ()

    @property
    def features(self) -> frozenset[str]:
        """What a replica must be able to render, beyond the first release of the contract."""
        return frozenset({self.kind})

    @property
    def folder(self) -> str:
        """Prefix of the recipe's frames in the bucket."""
        return f"frames/{self.id}/"

    @property
    def truncated_key(self) -> str:
        """Key of the warnings about truncated prompts. The file name is older than the term."""
        return f"{self.folder}unheard.json"

    @property
    def marked_key(self) -> str:
        """Key that exists if the safety checker marked a frame of the recipe; written before that frame."""
        return f"{self.folder}marked.json"
