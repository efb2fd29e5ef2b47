"""The card of a model whose engine is not diffusion: the engine's defaults, and the fields that files set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from momalisa_model.model_card import IDENTITY, card_fields, card_from
from momalisa_model.problems import UnsuitableModel
from momalisa_model.settings import ModelSource
from momalisa_model.wire import ModelCard

# Fields of every card that only diffusion has a meaning for.
WITHOUT_DIFFUSION: dict[str, Any] = {
    "num_inference_steps": 1,
    "max_steps": 1,
    "guidance_scale": 0.0,
    "negative_prompt": "",
    "scheduler": "none",
    "schedulers": ["none"],
    "token_limit": 1,
}


def read_engine_card(
    source: ModelSource, model: str, revision: str, folder: Path | None, base: str | None = None, /, **defaults: Any
) -> ModelCard:
    """The card of a model of this replica.

    model: its name unless a recipe gives it one. folder: where its card.json may be. base: the model's own revision, if
    `revision` has that of another one in it; a card may be for either. defaults: the engine's own for micro_batch,
    width, height, size_multiple, min_size, max_size, styles, about. Raises UnsuitableModel as read_card does.
    """
    fields = card_fields(folder, source)
    if fields.get("revision", revision) not in (revision, base or revision):
        raise UnsuitableModel(
            f"The model card is for {model} at {fields['revision']}, but {revision} is loaded. `momalisa-model card` "
            "prints one for the loaded model."
        )
    given = {name: value for name, value in fields.items() if name not in (*IDENTITY, *WITHOUT_DIFFUSION)}
    usual = {"model": model, "size_multiple": 2, **defaults}
    return card_from({**usual, **given, **WITHOUT_DIFFUSION, "engine": source.engine, "revision": revision})
