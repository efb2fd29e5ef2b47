"""A complete deployment: two replicas of two models, the API behind nginx, and a gallery that already has walks."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.client import Client
from tests.support.deployment import Deployment, deployed
from tests.support.finished_walks import StopsAndFrames, add_finished_walks, noise_frames
from tests.support.nginx import nginx
from tests.support.processes import REPOSITORY, WEIGHTS
from tests.support.recipes import write_recipe

DIST = REPOSITORY / "frontend" / "dist"
# More than the three pages of 24 that load automatically. Every tenth walk has a word for searches.
WALK_COUNT = 84
# Fast settings for walks whose rendering is not under test.
QUICK = {"frames": 13, "spacing": "uniform", "steps": 4}
# The atelier again, as a model of another name with other limits and a licence that forbids commercial use.
MINIATURE = "miniature"
MINIATURE_CARD = {
    "width": 128,
    "height": 128,
    "max_size": 192,
    "num_inference_steps": 4,
    "max_steps": 8,
    "schedulers": ["UniPC"],
    "about": {"title": "The miniature", "examples": [["a red star", "a blue moon"]], "words": [], "limits": ""},
}


def prompts(number: int) -> tuple[str, str]:
    """The stops of a walk that is in the gallery from the start."""
    return (f"a {'zeppelin' if number % 10 == 0 else 'spiral'} numbered {number}", f"a square numbered {number}")


class GalleryDeployment(Client):
    """A deployment as visitors reach it, through nginx; `direct` is the same one without nginx."""

    def __init__(self, url: str, direct: Deployment, walk_ids: list[str]) -> None:
        super().__init__(url)
        self.direct, self.walk_ids = direct, walk_ids

    def finished_walk(self, start: str, end: str, **options: Any) -> dict[str, Any]:
        """Request a walk and wait until it has ended."""
        return self.ended(self.request_walk(**QUICK | {"start": start, "end": end} | options))

    @contextmanager
    def holding(self, after: int = 2) -> Iterator[None]:
        """Each replica sends only this many frames until the block ends, so that walks stay unfinished."""
        with ExitStack() as stack:
            for proxy in self.direct.proxies:
                stack.enter_context(proxy.holding(after))
            yield

    def let_through(self) -> None:
        """Have replicas send everything that `holding` holds."""
        for proxy in self.direct.proxies:
            proxy.let_all()

    @contextmanager
    def refusing(self, detail: str) -> Iterator[None]:
        """Every replica refuses every render request."""
        with ExitStack() as stack:
            for proxy in self.direct.proxies:
                stack.enter_context(proxy.refusing(detail))
            yield


def build_gallery() -> Path:
    """The gallery as `make gallery` builds it; built here if it is missing or older than its sources."""
    # Tests install nothing: they use the environment that runs them as it is.
    command = ["make", "--silent", "gallery", "--old-file", ".venv/ready-cpu"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return DIST


@contextmanager
def deployed_gallery(folder: Path, walks: Sequence[StopsAndFrames]) -> Iterator[GalleryDeployment]:
    """A running deployment in a folder, with these walks in its gallery."""
    gallery = build_gallery()
    walk_ids = add_finished_walks(folder, walks)
    fields = {"license": "CC-BY-NC-4.0", "commercial": False, "card": MINIATURE_CARD}
    recipes = ["atelier", str(write_recipe(folder, MINIATURE, WEIGHTS, **fields))]
    with deployed(folder, recipes=recipes) as direct, nginx(folder, gallery, direct.url.removeprefix("http://")) as url:
        yield GalleryDeployment(url, direct, walk_ids)


def many_walks() -> list[StopsAndFrames]:
    """WALK_COUNT walks that share a few sets of frames."""
    pictures = [noise_frames(3, seed) for seed in range(4)]
    return [(prompts(number), pictures[number % 4]) for number in range(WALK_COUNT)]
