"""The operator's list of words that prompts must not contain."""

import re
from pathlib import Path

from momalisa_api.problems import PromptBlocked
from momalisa_api.walks.spec import WalkSpec


class Blocklist:
    """Words and phrases that prompts must not contain: one per line, whole words, any case; # starts a comment."""

    def __init__(self, path: Path | None) -> None:
        """path: the file; None blocks nothing. Raises OSError if the file cannot be read."""
        lines = path.read_text().splitlines() if path else []
        phrases = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        # Any white space between the words of a phrase matches.
        blocked = "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in phrases)
        self._pattern = re.compile(rf"(?<!\w)(?:{blocked})(?!\w)", re.IGNORECASE) if phrases else None

    def check(self, spec: WalkSpec) -> None:
        """Check a walk's prompts. Raises PromptBlocked, which does not name the word, to not help in avoiding it."""
        if self._pattern and any(self._pattern.search(stop) for stop in spec.stops):
            raise PromptBlocked("One of these prompts is not allowed on this deployment. Use other words.")
