"""Which models of a replica get work: those whose card is the registry's. New models and new cards are registered here.

A model keeps its card as long as an awake replica has it. So two replicas with different cards do not replace each
other's, and an upgrade or a rollback is complete once the last replica with the former card is gone.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import anyio

from momalisa_api.fleet.dispatch import ReplicaSlot
from momalisa_api.fleet.wire import ModelAnswer
from momalisa_api.walks.model_card import ModelCard, ModelKey
from momalisa_api.walks.models import Models


class Registry(Protocol):
    """What the fleet needs of the registry of models: store/models.py is one."""

    @property
    def known(self) -> Models:
        """The models as they were last read."""
        ...

    async def register(self, card: ModelCard, instead_of: ModelCard | None = None) -> None:
        """Register a new model, or a new card of one. Raises CatalogueUnavailable."""
        ...


class Admission:
    """Admits the models of replicas."""

    def __init__(self, registry: Registry, slots: Callable[[], Collection[ReplicaSlot]], hold_s: float) -> None:
        """slots: returns all slots of the fleet; hold_s: a replica that does not answer keeps its card so long."""
        self._registry = registry
        self._slots = slots
        self._hold_s = hold_s

    async def admit(
        self, slot: ReplicaSlot, answers: Sequence[ModelAnswer]
    ) -> tuple[dict[ModelKey, ModelAnswer], list[str]]:
        """The models that a slot may render, and why it may not render the others.

        answers: what its replica told. Raises CatalogueUnavailable if a model cannot be registered.
        """
        admitted, reasons = dict[ModelKey, ModelAnswer](), list[str]()
        for answer in answers:
            card = answer.card
            if await self._agrees(slot, card):
                admitted[card.key] = answer
            elif self._registry.known.allows(card.model):
                reasons.append(f"has another model card: {card.model} at {card.revision}")
            else:
                reasons.append(f"has another model than those that are allowed: {card.model}")
        return admitted, reasons or ([] if answers else ["has no model"])

    async def _agrees(self, slot: ReplicaSlot, card: ModelCard) -> bool:
        """Whether a card is the registry's, after it was registered if it may be."""
        found = self._registry.known.get(card.model)
        if self._registry.known.allows(card.model) and not (found and self._stays(found.card, slot, card)):
            await self._registry.register(card, found.card if found else None)
            found = self._registry.known.get(card.model)
        return found is not None and card.agrees_with(found.card)

    def _stays(self, current: ModelCard, slot: ReplicaSlot, other: ModelCard) -> bool:
        """Whether a model keeps its card when a slot's replica brings another one.

        So it does while not all replicas have told theirs.
        """
        found = self._registry.known.get(current.model)
        if current == other or (found and found.fixed):
            return True
        since = anyio.current_time() - self._hold_s
        return any(
            not one.told or (_has(one, current) and (one.fit or one.fit_at > since))
            for one in self._slots()
            if one is not slot
        )


def _has(slot: ReplicaSlot, card: ModelCard) -> bool:
    """Whether a slot holds a model with exactly this card, the texts for people included."""
    return card.key in slot.models and slot.models[card.key].card == card
