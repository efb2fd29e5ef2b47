"""Walks with failures in between, and the check that they complete as if nothing had happened."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from momalisa_api.walks.between import BetweenSpec
from momalisa_api.work.thumbnails import SHEET
from tests.support.client import Client
from tests.support.processes import Service, Trap
from tests.support.scaled import Scaled

FRAMES, FILMS = 13, 5
_seeds = count(1)


def new_request(**changes: Any) -> dict[str, Any]:
    """The body of a request for a walk that does not exist yet."""
    walk_request = {
        "start": "a red sunburst on yellow",
        "end": "blue waves",
        "frames": FRAMES,
        "spacing": "uniform",
        "steps": 2,
        # A quarter of the model's usual pixels: films take as long as the frames of so few steps.
        "width": 128,
        "height": 128,
    }
    return {**walk_request, "seed": next(_seeds), **changes}


@dataclass
class Toll:
    """The work that may be done twice because of the failures during a walk."""

    in_flight: set[str] = field(default_factory=set)
    filmings: int = 0

    def kill(self, scaled: Scaled, service: Service) -> None:
        """Send SIGKILL, and note the frames in flight before another worker can take them over."""
        service.kill()
        if service in scaled.workers:
            self.in_flight |= scaled.in_flight(service)
            self.filmings = 1

    def __str__(self) -> str:
        return f"{len(self.in_flight)} frames were in flight"


def check(scaled: Scaled, calm: Client, walk: dict[str, Any], walk_request: dict[str, Any], toll: Toll) -> None:
    """The walk is done with the pictures of an undisturbed run; only frames in flight came twice; one set of films."""
    walk = scaled.ended(walk)
    assert walk["state"] == "done", walk
    rendered, gcs = scaled.rendered(), scaled.gcs
    keys = pictures_of(scaled, walk)
    assert len(keys) >= walk["spec"]["frames"]
    assert {key for key in keys if rendered[key] > 1} <= toll.in_flight
    assert max(rendered[key] for key in keys) <= 2
    assert {key for key in keys if gcs.arrived[key] > 1} <= toll.in_flight
    beside = [key for key in gcs.objects if key.startswith(f"walks/{walk['id']}/")]
    films = [key for key in beside if SHEET not in key]
    assert len(films) == len(walk["films"]) == FILMS
    assert all(gcs.stored[key] == 1 for key in [*keys, *films])
    assert max(gcs.arrived[key] for key in films) <= 1 + toll.filmings
    assert not scaled.requested(scaled.web)
    undisturbed = calm.ended(calm.request_walk(**walk_request))
    assert undisturbed["id"] == walk["id"]
    assert undisturbed["films"] == walk["films"]
    # The archive comes last: it is made on its first request, and is an object beside the films from then on.
    for path in (f"{walk['url']}/frames.zip", *walk["films"].values()):
        assert scaled.fetch(path) == calm.fetch(path), path


def pictures_of(scaled: Scaled, walk: dict[str, Any]) -> set[str]:
    """The keys of all pictures rendered for a walk with a unique seed: its frames and its probes."""
    [recipe] = BetweenSpec.model_validate(walk["spec"]).recipes(walk["seed"])
    return {key for key in scaled.gcs.objects if key.startswith(recipe.folder) and key.endswith(".png")}


def request_with_trap(
    scaled: Scaled, walk_request: dict[str, Any], trap: Trap, instead: Service | None
) -> tuple[dict[str, Any], Service]:
    """Request a walk, wait for the trap, and restart its process or `instead` at once. Returns walk and process."""
    with scaled.trap(trap), ThreadPoolExecutor(1) as pool:
        pending = pool.submit(scaled.request_until_accepted, **walk_request)
        trapped = trap.wait()
        (instead or trapped).restart()
        return pending.result(), trapped
