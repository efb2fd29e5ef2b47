"""The operator's list of words that prompts must not contain."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from momalisa_api.problems import PromptBlocked
from momalisa_api.walks.spec import WalkSpec

# Invisible characters outside of category Cf: from Default_Ignorable_Code_Point of the Unicode Standard.
_IGNORABLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


class Blocklist:
    """Words and phrases that prompts must not contain: whole words, in any case and any Unicode form."""

    def __init__(self, phrases: Iterable[str] = ()) -> None:
        # A phrase can have invisible characters only. As a pattern it would match nearly every prompt.
        words = [found for phrase in phrases if (found := _folded(phrase).split())]
        # Any white space between the words of a phrase matches.
        blocked = [r"\s+".join(map(re.escape, phrase)) for phrase in words]
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(blocked)})(?!\w)") if blocked else None

    @classmethod
    def read(cls, path: Path | None) -> Self:
        """Read a file in UTF-8 with one phrase per line; # starts a comment. None blocks nothing.

        Raises SystemExit, with what to do, if the file cannot be read.
        """
        try:
            # Editors on Windows begin a file with a byte order mark.
            lines = path.read_text(encoding="utf-8-sig").splitlines() if path else []
        except UnicodeDecodeError as error:
            raise SystemExit(f"The blocklist {path} is not in UTF-8: {error}\nSave it in UTF-8.") from error
        except OSError as error:
            raise SystemExit(f"No blocklist at {path}: {error}\nSet MOMALISA_BLOCKLIST to one, or unset it.") from error
        return cls(line for line in map(str.strip, lines) if line and not line.startswith("#"))

    def check(self, spec: WalkSpec) -> None:
        """Check a walk's prompts. Raises PromptBlocked, which does not name the word, to not help in avoiding it."""
        if self._pattern and any(self._pattern.search(_folded(stop)) for stop in spec.prompts):
            raise PromptBlocked("One of these prompts is not allowed on this deployment. Use other words.")


def _folded(text: str) -> str:
    """A text for comparisons: equal for letters that differ in case, width or composition, or in invisible characters.

    Source: NFKC_Casefold of the Unicode Standard, section 3.13.
    """
    visible = "".join(found for found in _IGNORABLE.sub("", text) if unicodedata.category(found) != "Cf")
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible).casefold())
