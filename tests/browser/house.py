"""The whole house: two replicas, the api, and nginx before it, with walks on the wall."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.browser.hung import Way, hang, painted
from tests.journey.client import Client
from tests.journey.deployment import Deployment, deployed
from tests.journey.processes import REPOSITORY
from tests.nginx import nginx

DIST = REPOSITORY / "frontend" / "dist"
# More than hang by themselves, which is three pages of 24; one of every ten holds a word of its own.
HUNG = 84
# Asked over HTTP where the way there does not matter: quickly rendered.
QUICK = {"frames": 13, "spacing": "uniform", "steps": 4}


def prompts(number: int) -> tuple[str, str]:
    """The stops of a walk that hung there before."""
    return (f"a {'zeppelin' if number % 10 == 0 else 'spiral'} numbered {number}", f"a square numbered {number}")


class House(Client):
    """A deployment as visitors see it, through nginx; `inside` is the same without."""

    def __init__(self, url: str, inside: Deployment, hung: list[str]) -> None:
        super().__init__(url)
        self.inside, self.hung = inside, hung

    def walked(self, start: str, end: str, **wish: Any) -> dict[str, Any]:
        """A walk that has ended."""
        return self.ended(self.ask(**QUICK | {"start": start, "end": end} | wish))

    @contextmanager
    def holding(self, after: int = 2) -> Iterator[None]:
        """Each replica's pictures wait after so many for the end of the block: a walk stands still half done."""
        with ExitStack() as stack:
            for proxy in self.inside.proxies:
                stack.enter_context(proxy.holding(after))
            yield

    @contextmanager
    def refusing(self, detail: str) -> Iterator[None]:
        """Every replica refuses what it is asked for."""
        with ExitStack() as stack:
            for proxy in self.inside.proxies:
                stack.enter_context(proxy.refusing(detail))
            yield


def built() -> Path:
    """The built gallery, as `make gallery` leaves it; made where it lacks or is older than what it is made of."""
    # The environment is the one that runs this: nothing is to be installed into it by a test.
    command = ["make", "--silent", "gallery", "--old-file", ".venv/ready-cpu"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return DIST


@contextmanager
def standing(folder: Path, ways: Sequence[Way]) -> Iterator[House]:
    """A house in a folder, on whose wall walks hang already."""
    gallery = built()
    hung = hang(folder, ways)
    with deployed(folder) as inside, nginx(folder, gallery, inside.url.removeprefix("http://")) as url:
        yield House(url, inside, hung)


def wall() -> list[Way]:
    """HUNG walks between few pictures."""
    pictures = [painted(3, dice) for dice in range(4)]
    return [(prompts(number), pictures[number % 4]) for number in range(HUNG)]
