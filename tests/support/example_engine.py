"""A small engine as docs/engines.md describes it: it moves a picture to the side, for recipes of the kind `into`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from momalisa_model.cancellation import Cancelled, ShouldStop, never
from momalisa_model.engine_card import read_engine_card
from momalisa_model.engines.engine import Extra, Frame, LoadedEngine, packed
from momalisa_model.engines.kept import Kept
from momalisa_model.fingerprints import made_of_any
from momalisa_model.hub import Report
from momalisa_model.packing import Finish
from momalisa_model.pictures import Pictures
from momalisa_model.png import encode_png
from momalisa_model.problems import UnsuitableModel
from momalisa_model.recipes import IntoRecipe
from momalisa_model.settings import ModelSource
from momalisa_model.wire import ModelCard, RenderRequest, Truncated

SIZES = {"micro_batch": 2, "width": 16, "height": 16, "min_size": 8, "max_size": 64}


def load_parallax(source: ModelSource, _: Report) -> LoadedEngine:
    """The name that the engine `parallax` has in ENGINES."""
    card = read_engine_card(source, "example", "e" * 64, None, **SIZES)
    parts = made_of_any(card.revision, torch.device("cpu"), card.micro_batch, np)
    return LoadedEngine(ExampleEngine(card.micro_batch), card, parts)


@dataclass(frozen=True)
class Negative:
    """What the engine keeps of a recipe: the picture's negative."""

    picture: NDArray[np.uint8]
    warnings: tuple[Truncated, ...] = ()


class ExampleEngine:
    """prepared: how often a negative was made."""

    features = ("into",)
    batch_invariant = True
    prepares_beside = True

    def __init__(self, micro_batch: int) -> None:
        self.prepared = 0
        self._micro_batch = micro_batch
        self._kept: Kept[Negative] = Kept(4)

    def prepare(self, request: RenderRequest, pictures: Pictures, _: ShouldStop) -> Negative:
        recipe = request.recipe
        assert isinstance(recipe, IntoRecipe)
        return self._kept.get(recipe, lambda: self._negative(pictures[recipe.picture]))

    def _negative(self, picture: NDArray[np.uint8]) -> Negative:
        self.prepared += 1
        return Negative(255 - picture)

    def extras(self, prepared: Negative) -> Iterator[Extra]:
        yield Extra("depth.png", "image/png", encode_png(prepared.picture))

    def batches(
        self, request: RenderRequest, prepared: Negative, _: Pictures, should_stop: ShouldStop
    ) -> Iterator[Finish[Frame]]:
        for first in range(0, len(request.fractions), self._micro_batch):
            if should_stop():
                raise Cancelled
            began, some = perf_counter(), request.fractions[first : first + self._micro_batch]
            yield packed(some, np.stack([moved(prepared.picture, one) for one in some]), perf_counter() - began)

    def warm_up(self, card: ModelCard, strict: bool) -> None:
        self.self_test(card)
        if strict and not self.batch_invariant:
            raise UnsuitableModel("The bits of a frame depend on its place in the batch.")

    def self_test(self, card: ModelCard) -> None:
        grey, key = np.full((card.height, card.width, 3), 128, np.uint8), "0" * 64
        of_card = {name: getattr(card, name) for name in ("width", "height", "model", "revision")}
        recipe = IntoRecipe(kind="into", picture=key, motion="sway", amplitude=0.5, **of_card)
        request = RenderRequest(recipe=recipe, fractions=[0.0])
        for finish in self.batches(request, self._negative(grey), {key: grey}, never):
            list(finish())


def moved(picture: NDArray[np.uint8], fraction: float) -> NDArray[np.uint8]:
    """The picture moved to the right by this share of its width, and around the edge."""
    return np.roll(picture, round(fraction * picture.shape[1]), axis=1)
