"""The replicas that hold one model, as they are at this moment: how many, how fast, and of which kinds."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from momalisa_api.fleet.dispatch import ReplicaSlot
from momalisa_api.walks.model_card import ModelKey

FIRST_GUESS_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Holders:
    """The replicas of a model. slots: those included that start or restart, and have not told what they hold."""

    key: ModelKey
    slots: Sequence[ReplicaSlot]

    @property
    def size(self) -> int:
        """How many replicas there are, with those that are awake in a moment."""
        return len(self.slots)

    @property
    def awake(self) -> int:
        """How many replicas can take work."""
        return sum(slot.offers(self.key) for slot in self.slots)

    @property
    def features(self) -> frozenset[str]:
        """What all replicas that can take work can render beyond the first release of the contract."""
        offered = [frozenset(slot.models[self.key].features) for slot in self._fit]
        return frozenset.intersection(*offered) if offered else frozenset()

    @property
    def offered(self) -> frozenset[str] | None:
        """What any replica can render beyond the first release of the contract, also while it restarts.

        None while none has told.
        """
        told = [frozenset(slot.models[self.key].features) for slot in self.slots if self.key in slot.models]
        return frozenset[str]().union(*told) if told else None

    @property
    def fingerprints(self) -> frozenset[str]:
        """The fingerprints of the replicas that can take work."""
        return frozenset(slot.fingerprint(self.key) for slot in self._fit)

    @property
    def shard_s(self) -> float | None:
        """Seconds that a shard takes at present, averaged over the replicas; None before the first."""
        measured = [slot.shard_s[self.key] for slot in self.slots if self.key in slot.shard_s]
        return fmean(measured) if measured else None

    def fingerprint_for(self, frames: int, load: Mapping[str, int], among: Collection[str] = ()) -> str | None:
        """The fingerprint whose replicas will finish a new walk first, or None while no replica is awake.

        frames: of the walk; load: frames of other unfinished walks by fingerprint; among: fingerprints to prefer.
        """
        guess_s, speeds = self.shard_s or FIRST_GUESS_S, dict[str, float]()
        for slot in self._fit:
            fingerprint = slot.fingerprint(self.key)
            speeds[fingerprint] = speeds.get(fingerprint, 0.0) + 1 / (slot.shard_s.get(self.key) or guess_s)
        awake = speeds.keys() & {*among} or speeds.keys()
        return min(awake, key=lambda kind: ((load.get(kind, 0) + frames) / speeds[kind], kind), default=None)

    @property
    def _fit(self) -> list[ReplicaSlot]:
        return [slot for slot in self.slots if slot.offers(self.key)]
