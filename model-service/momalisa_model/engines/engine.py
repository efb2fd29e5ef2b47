"""The seam between what serves frames and what makes them. docs/engines.md says how to write an engine.

Independent of HTTP, of the device queue, and of how any engine works.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from momalisa_model.cancellation import ShouldStop
from momalisa_model.packing import Finish
from momalisa_model.pictures import Pictures
from momalisa_model.png import encode_png
from momalisa_model.wire import ModelCard, RenderRequest, Truncated


@dataclass(frozen=True)
class Frame:
    """One picture as a PNG file, its device time, and whether the model's safety checker objects to it."""

    fraction: float
    png: bytes
    seconds: float
    marked: bool


@dataclass(frozen=True)
class Extra:
    """A file that belongs to a recipe beside its frames. name: as in ExtraLine."""

    name: str
    media_type: Literal["image/png", "application/json"]
    data: bytes


class Prepared(Protocol):
    """What an engine knows of a recipe before it renders frames."""

    @property
    def warnings(self) -> tuple[Truncated, ...]:
        """What the caller is told before the first frame."""


P = TypeVar("P", bound=Prepared)


class Engine(Protocol[P]):
    """Renders frames of some kinds with one model.

    features: as in ModelAnswer, after `warm_up`. batch_invariant: likewise. prepares_beside: whether `prepare` may run
    in another thread while the device renders; it must not need the device then.
    """

    @property
    def features(self) -> tuple[str, ...]: ...
    @property
    def batch_invariant(self) -> bool: ...
    @property
    def prepares_beside(self) -> bool: ...

    def prepare(self, request: RenderRequest, pictures: Pictures, should_stop: ShouldStop) -> P:
        """What all frames of a recipe share. Called for each request: keep the last ones by recipe (see Kept).

        The request has been checked (see request_check). Raises Cancelled soon after should_stop() becomes true.
        """

    def extras(self, prepared: P) -> Iterator[Extra]:
        """The files beside the frames. Called in a packing thread, if the caller wants them."""

    def batches(
        self, request: RenderRequest, prepared: P, pictures: Pictures, should_stop: ShouldStop
    ) -> Iterator[Finish[Frame]]:
        """The frames at the request's fractions, in their order, a micro-batch at a time, in the device's thread.

        The items do in a packing thread what is left without the device: see `packed`. A frame's bits depend on the
        recipe and its own fraction (and source) alone. Raises Cancelled soon after should_stop() becomes true.
        """

    def warm_up(self, card: ModelCard, strict: bool) -> None:
        """Render a little with the card's defaults, at the start.

        strict: raise UnsuitableModel if a frame's bits depend on its place in a batch.
        """

    def self_test(self, card: ModelCard) -> None:
        """Render something that has worked at the warm-up, to tell a broken device from a wrong request."""


@dataclass(frozen=True)
class LoadedEngine:
    """What the function in an engine's module returns that loads a model. made_of: see fingerprints."""

    engine: Engine[Any]
    card: ModelCard
    made_of: dict[str, str | int]


def packed(fractions: Sequence[float], pictures: NDArray[np.uint8], seconds: float) -> Finish[Frame]:
    """What compresses the pictures of one micro-batch, for `batches`.

    pictures: (frames, height, width, 3) uint8, which nobody changes any more. seconds: the device time of all of them.
    """
    return partial(_frames, fractions, pictures, seconds)


def _frames(fractions: Sequence[float], pictures: NDArray[np.uint8], seconds: float) -> Iterator[Frame]:
    for fraction, picture in zip(fractions, pictures, strict=True):
        yield Frame(fraction, encode_png(picture), seconds / len(fractions), marked=False)
