"""The models of a deployment: which are registered, which new walks may use, and which one is the default. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from momalisa_api.problems import Invalid, Starting
from momalisa_api.walks.model_card import ModelCard, ModelKey

# In the names of models that are allowed: whatever the replicas bring.
ANY: Final = "*"
# The feature of replicas that render recipes with pictures.
PICTURES: Final = "pictures"
# For walks whose model is not registered: nothing renders them, but they are planned from what the bucket has.
UNKNOWN_MICRO_BATCH: Final = 4


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
    def name(self) -> str:
        return self.card.model


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
        those with replicas awake, or of all. None while no replica has brought one.
        """
        return next(iter(self.offered), None)

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

    def choose(self, name: str | None = None) -> RegisteredModel:
        """The model of a request, the default if it names none. It may be retired: walks that exist can be requested.

        Raises Starting while it is not known yet, and Invalid if there is no such model.
        """
        found = self._known.get(name) if name is not None else self.default
        if found and (found.retired or self.allows(found.name)):
            return found
        if name in self.unseen:
            raise Starting(f"No replica of the model {name} has started yet. Retry in a minute.")
        if name is None or not self.offered:
            if any(model.retired for model in self.registered) and not self.unseen:
                raise Starting("All models are retired. An operator can allow new walks with one of them again.")
            raise Starting("No replica has started yet, so the models are not known. Retry in a minute.")
        raise _refusal(f'must be one of {self._offered_names}, not "{name}"')

    def check_offered(self, name: str) -> None:
        """Raises Invalid for a model that new walks cannot use."""
        if all(model.name != name for model in self.offered):
            others = f"use one of {self._offered_names}" if self.offered else "there is no other one"
            raise _refusal(f"{name} is retired: walks that exist can still be watched; for new ones, {others}")

    def check_pictures(self, name: str) -> None:
        """Raises Invalid for a model whose stops cannot be pictures."""
        found = self._known.get(name)
        if found and found.pictures is False:
            able = ", ".join(model.name for model in self.offered if model.pictures)
            instead = f"use one of {able}" if able else "use prompts only"
            raise _refusal(f"{name} cannot use pictures as stops: {instead}")

    @property
    def _offered_names(self) -> str:
        return ", ".join(model.name for model in self.offered)


def _refusal(detail: str) -> Invalid:
    """The problem of a request whose model cannot be used."""
    return Invalid(f"model {detail}.", [{"field": "model", "detail": detail}])
