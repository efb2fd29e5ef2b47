"""Warns of words in prompts that a model has never seen."""

import re

from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.spec import WalkSpec

MAX_WORDS_SHOWN = 12


def unknown_words(spec: WalkSpec, card: ModelCard) -> tuple[str, ...]:
    """A warning if the stops contain words that the model does not know: at most one sentence."""
    if not card.about.words:
        return ()
    words = re.findall(r"[^\W\d_]+", " ".join(spec.prompts).casefold())
    unknown = sorted(set(words) - set(card.about.words))
    if not unknown:
        return ()
    shown = ", ".join(unknown[:MAX_WORDS_SHOWN]) + (" and more" if len(unknown) > MAX_WORDS_SHOWN else "")
    name = card.about.title or card.model
    return (f"{name} does not know: {shown}. Its pictures may not show what these words mean.",)
