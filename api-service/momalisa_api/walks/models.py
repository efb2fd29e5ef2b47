"""The models of a deployment: which are registered, which new walks may use, and which one is the default. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Final

from momalisa_api.problems import Invalid, Starting
from momalisa_api.walks.kinds import BETWEEN, DIFFUSION, KINDS, PICTURES, STYLE_NET, WalkKind
from momalisa_api.walks.model_card import ModelCard, ModelKey

# In the names of models that are allowed: whatever the replicas bring.
ANY: Final = "*"
# For walks whose model is not registered: nothing renders them, but they are planned from what the bucket has.
UNKNOWN_MICRO_BATCH: Final = 4
# What an operator has to add before a deployment has walks of a kind.
NEEDED: Final[Mapping[WalkKind, str]] = {
    "between": "a diffusion model, such as the atelier",
    "into": "a model of depth, such as depth-anything-v2-small",
    "restyle": "a model of styles, such as styles, or a diffusion model that restyles pictures",
    "clip": "a model of styles, such as styles, or a diffusion model that restyles pictures",
    "apart": "a model of instances, such as rf-detr-seg-small",
}


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request needs of its model. style: one that its card must have; engine: the only one that can do it."""

    kind: WalkKind = BETWEEN
    style: str | None = None
    engine: str | None = None


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A model of the registry.

    card: the current one, which the frames of new walks have; retired: no new walks; chosen: an operator made it the
    default; fixed: the card comes from a file, so replicas do not change it; seen: replicas of it are awake; shard_s:
    seconds that a shard took last, None before the first; features: of any of its replicas, None before one has told.
    """

    card: ModelCard
    retired: bool = False
    chosen: bool = False
    fixed: bool = False
    seen: bool = False
    shard_s: float | None = None
    features: frozenset[str] | None = None

    @property
    def pictures(self) -> bool | None:
        """Whether stops can be pictures; None while no replica has told."""
        return None if self.features is None else PICTURES in self.features

    @property
    def kinds(self) -> tuple[WalkKind, ...]:
        """The kinds of walks that its replicas render."""
        of_engine = {BETWEEN} if self.card.engine == DIFFUSION else set[WalkKind]()
        return tuple(kind for kind in KINDS if kind in of_engine | (self.features or frozenset()))

    @property
    def name(self) -> str:
        return self.card.model

    def meets(self, needs: Needs) -> bool:
        """Whether it can render what a request needs."""
        styles = {style.name for style in self.card.styles}
        engine = needs.engine in (None, self.card.engine)
        return needs.kind in self.kinds and engine and (needs.style is None or needs.style in styles)


class Models:
    """A snapshot of the registry, as the settings of this process restrict it."""

    def __init__(
        self, registered: Iterable[RegisteredModel] = (), named: Sequence[str] = (ANY,), fixed: ModelCard | None = None
    ) -> None:
        """registered: in the order of their registration; named: allowed models, or ANY; fixed: the card of a file."""
        self._named = tuple(named)
        self._known = {model.name: model for model in registered}
        if fixed:
            stored = self._known.get(fixed.model) or RegisteredModel(fixed)
            self._known[fixed.model] = replace(stored, card=fixed, fixed=True)

    @property
    def registered(self) -> tuple[RegisteredModel, ...]:
        """All models, those included that new walks cannot use."""
        return tuple(self._known.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all models that are registered, or named in the settings."""
        return tuple(dict.fromkeys([*self._known, *self.unseen]))

    @property
    def unseen(self) -> tuple[str, ...]:
        """The models that the settings name, and that no replica has brought yet."""
        return tuple(name for name in self._named if name != ANY and name not in self._known)

    @cached_property
    def offered(self) -> tuple[RegisteredModel, ...]:
        """The models that new walks can use, the default first."""
        usable = [model for model in self._known.values() if self.allows(model.name) and not model.retired]
        by_name = {model.name: model for model in usable}
        preferred = [model for model in usable if model.chosen] + [model for model in usable if model.fixed]
        preferred += [by_name[name] for name in self._named if name in by_name]
        preferred += [model for model in usable if model.seen] + usable
        return tuple({model.name: model for model in preferred}.values())

    @property
    def default(self) -> RegisteredModel | None:
        """The model of requests that name none.

        The chosen one, else the file's, else the first that the settings name, else the first that was registered: of
        those with replicas awake, or of all. It renders walks between stops. None while no replica has brought one.
        """
        return self.first(Needs())

    def first(self, needs: Needs) -> RegisteredModel | None:
        """The first model that new walks can use and that can render what a request needs; None if there is none.

        Of a style, those come first that are made for styles: they keep what the picture shows.
        """
        able = [model for model in self.offered if model.meets(needs)]
        made_for_styles = (model for model in able if needs.style is not None and model.card.engine == STYLE_NET)
        return next(chain(made_for_styles, able), None)

    def get(self, name: str) -> RegisteredModel | None:
        """A registered model."""
        return self._known.get(name)

    def allows(self, name: str) -> bool:
        """Whether the settings allow a model."""
        return ANY in self._named or name in self._named

    def awaits(self, key: ModelKey, *, complete: bool = False) -> bool:
        """Whether walks of this model wait for a replica while none is awake: one may start. Otherwise they fail.

        complete: all replicas that there can be are awake, and hold other models. Then only named models wait.
        """
        found = self._known.get(key.model)
        if complete and key.model not in self._named:
            return False
        return self.allows(key.model) and found.card.key == key if found else key.model in self._named

    def micro_batch(self, name: str) -> int:
        """How many frames a replica of a model renders at once."""
        found = self._known.get(name)
        return found.card.micro_batch if found else UNKNOWN_MICRO_BATCH

    def choose(self, name: str | None = None, needs: Needs = Needs()) -> RegisteredModel:
        """The model of a request, the first that can render it if it names none.

        It may be retired: walks that exist can be requested. Raises Starting while it is not known yet, and Invalid if
        there is no such model.
        """
        found = self._known.get(name) if name is not None else self.first(needs)
        if found and (found.retired or self.allows(found.name)):
            if not found.meets(needs):
                raise self._unable(found, needs)
            return found
        if name in self.unseen:
            raise Starting(f"No replica of the model {name} has started yet. Retry in a minute.")
        if not self.offered:
            if any(model.retired for model in self.registered) and not self.unseen:
                raise Starting("All models are retired. An operator can allow new walks with one of them again.")
            raise Starting("No replica has started yet, so the models are not known. Retry in a minute.")
        if name is None:
            raise self._lacking(needs)
        raise _refusal("model", f'must be one of {self._names_of(self.offered)}, not "{name}"')

    def _unable(self, found: RegisteredModel, needs: Needs) -> Invalid | Starting:
        """The problem of a request that names a model which cannot render it."""
        if found.features is None and needs.kind != BETWEEN:
            return Starting(f"No replica of the model {found.name} has told yet what it renders. Retry in a minute.")
        if found.meets(replace(needs, style=None)):
            styles = ", ".join(style.name for style in found.card.styles) or "omitted, as it has no styles"
            return _refusal("style", f'must be one of the styles of {found.name}, not "{needs.style}": {styles}')
        able = self._names_of(model for model in self.offered if model.meets(needs))
        instead = f"use {able}" if able else f"it needs {NEEDED[needs.kind]}"
        return _refusal("model", f"{found.name} cannot render this walk of the kind {needs.kind}: {instead}")

    def _lacking(self, needs: Needs) -> Invalid | Starting:
        """The problem of a request that no offered model can render."""
        if self.unseen or all(model.features is None for model in self.offered):
            return Starting("Not all models have started yet, and the others cannot render this. Retry in a minute.")
        able = [model for model in self.offered if model.meets(replace(needs, style=None))]
        if needs.style is not None and able:
            styles = dict.fromkeys(style.name for model in able for style in model.card.styles)
            return _refusal("style", f'must be one of {", ".join(styles)}, not "{needs.style}"')
        if needs.engine is not None and any(needs.kind in model.kinds for model in self.offered):
            way = "prompt" if needs.engine == DIFFUSION else "style_picture"
            return _refusal(way, "must be omitted: no model of this server can use it; use a style")
        return _refusal("kind", f"{needs.kind} is not possible on this server: it needs {NEEDED[needs.kind]}")

    def check_offered(self, name: str) -> None:
        """Raises Invalid for a model that new walks cannot use."""
        if all(model.name != name for model in self.offered):
            others = f"use one of {self._names_of(self.offered)}" if self.offered else "there is no other one"
            raise _refusal("model", f"{name} is retired: walks that exist can still be watched; for new ones, {others}")

    def check_pictures(self, name: str) -> None:
        """Raises Invalid for a model whose stops cannot be pictures."""
        found = self._known.get(name)
        if found and found.pictures is False:
            able = self._names_of(model for model in self.offered if model.pictures)
            instead = f"use one of {able}" if able else "use prompts only"
            raise _refusal("model", f"{name} cannot use pictures as stops: {instead}")

    def _names_of(self, models: Iterable[RegisteredModel]) -> str:
        return ", ".join(model.name for model in models)


def _refusal(field: str, detail: str) -> Invalid:
    """The problem of a request for which there is no model."""
    return Invalid(f"{field} {detail}.", [{"field": field, "detail": detail}])
