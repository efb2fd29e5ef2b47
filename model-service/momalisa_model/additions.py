"""What is added to a model, and the revision of both together. Finds and loads nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from momalisa_model.wire import Adapter, Origin


@dataclass(frozen=True)
class Additions:
    """What is added to a model, as its card tells it. False if that is nothing."""

    base_revision: str = ""
    vae: Origin | None = None
    adapters: tuple[Adapter, ...] = ()

    @property
    def in_card(self) -> dict[str, Any]:
        """The fields of a model card; none if nothing is added."""
        if not self:
            return {}
        fields = {"base_revision": self.base_revision, "adapters": [one.model_dump() for one in self.adapters]}
        return {**fields, "vae": self.vae.model_dump() if self.vae else None}

    @property
    def revision(self) -> str:
        """The model's own revision if nothing is added; else the SHA-256 of `in_card` as JSON with sorted keys."""
        if not self:
            return self.base_revision
        return hashlib.sha256(json.dumps(self.in_card, sort_keys=True).encode()).hexdigest()

    def __bool__(self) -> bool:
        return bool(self.vae or self.adapters)


NO_ADDITIONS = Additions()


def revision_with_fill(revision: str, fill: str) -> str:
    """The revision of a model and of the one that fills for it: the SHA-256 of both as JSON with sorted keys."""
    both = {"base_revision": revision, "fill_model": fill}
    return hashlib.sha256(json.dumps(both, sort_keys=True).encode()).hexdigest()
