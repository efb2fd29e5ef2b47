"""Every walk arrives, is rendered once and filmed once: whoever is killed, frozen or told to stop in mid-walk."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import Any

import httpx
import pytest

from momalisa_api.walks.spec import WalkSpec
from tests.support.client import Client
from tests.support.factories import frames_of
from tests.support.processes import Service, Trap, wait_until
from tests.support.scaled import REPLICAS, SEED, Scaled, is_ready

FRAMES, FILMS = 13, 5
# What the api says on a walk's way, and how often at most: where processes are killed.
POINTS = {
    "walk taken in": 1,
    "walk planned": 1,
    "shard begun": 3,
    "frame stored": FRAMES,
    "walk filming": 1,
    "film stored": FILMS,
    "walk done": 1,
}
A_REPLICA = "a replica"
LONGEST_PAUSE_S = 0.3
_seeds = count(1)


@pytest.fixture
def wish() -> dict[str, Any]:
    return new_wish()


def new_wish(**changes: Any) -> dict[str, Any]:
    """A walk that nobody has asked for yet."""
    wish = {
        "start": "a red sunburst on yellow",
        "end": "blue waves",
        "frames": FRAMES,
        "spacing": "uniform",
        "steps": 2,
    }
    return {**wish, "seed": next(_seeds), **changes}


@dataclass
class Toll:
    """What the disturbances of a walk may have cost."""

    in_flight: set[str] = field(default_factory=set)
    filmings: int = 0

    def kill(self, scaled: Scaled, service: Service) -> None:
        """SIGKILL, then a look at what was in flight: before anybody can have taken it over."""
        service.kill()
        if service in scaled.workers:
            self.in_flight |= scaled.in_flight(service)
            self.filmings = 1

    def __str__(self) -> str:
        return f"{len(self.in_flight)} frames were in flight"


def check(scaled: Scaled, calm: Client, walk: dict[str, Any], wish: dict[str, Any], toll: Toll) -> None:
    """Done, with the pictures of an undisturbed run; twice came only what was in flight; one set of films."""
    walk = scaled.ended(walk)
    assert walk["state"] == "done", walk
    rendered, gcs = scaled.rendered(), scaled.gcs
    keys = pictures_of(scaled, walk)
    assert len(keys) >= walk["spec"]["frames"]
    assert {key for key in keys if rendered[key] > 1} <= toll.in_flight
    assert max(rendered[key] for key in keys) <= 2
    assert {key for key in keys if gcs.arrived[key] > 1} <= toll.in_flight
    films = [key for key in gcs.objects if key.startswith(f"walks/{walk['id']}/")]
    assert len(films) == len(walk["films"]) == FILMS
    assert all(gcs.stored[key] == 1 for key in [*keys, *films])
    assert max(gcs.arrived[key] for key in films) <= 1 + toll.filmings
    assert not scaled.asked(scaled.web)
    undisturbed = calm.ended(calm.ask(**wish))
    assert undisturbed["id"] == walk["id"]
    assert undisturbed["films"] == walk["films"]
    # The archive last: it is made when it is first asked for, and lies beside the films from then on.
    for path in (f"{walk['url']}/frames.zip", *walk["films"].values()):
        assert scaled.fetch(path) == calm.fetch(path), path


def pictures_of(scaled: Scaled, walk: dict[str, Any]) -> set[str]:
    """All that was rendered for a walk whose seed is its own: its frames, and what was looked at on the way to them."""
    [recipe] = WalkSpec.model_validate(walk["spec"]).recipes(walk["seed"])
    return {key for key in scaled.gcs.objects if key.startswith(recipe.folder) and key.endswith(".png")}


def test_no_replica_for_a_while_is_a_pause(starting, calm, wish):
    """GPU pools scale to zero: the walk waits, says so, and no try is counted."""
    for replica in starting.replicas:
        replica.end()
    for service in starting.api:
        wait_until(lambda service=service: is_ready(service))
    wait_until(lambda: not starting.awake())
    walk = starting.read(starting.ask(**wish))
    assert (walk["state"], walk["replicas_awake"]) == ("waiting", 0)
    starting.wait_until_ready()
    check(starting, calm, walk, wish, Toll())
    assert starting.of_walk("tries", walk["id"]) == 0


def test_a_walk_arrives_whoever_is_killed_and_whenever(scaled, calm, capsys):
    """SIGKILL at lines of the log, at once or some time after them. MOMALISA_SEED draws the same ones again."""
    dice = random.Random(SEED)
    with capsys.disabled():
        print(f"\nMOMALISA_SEED={SEED}")
    # Whoever says the line dies; of one more, a replica does.
    spacings = cycle(dice.sample(["even", "uniform"], 2))
    for event, spacing in zip(dice.sample([*POINTS, A_REPLICA], len(POINTS) + 1), spacings, strict=False):
        replica = dice.choice(scaled.replicas) if event == A_REPLICA else None
        event = "shard begun" if replica else event
        # An even walk is planned once a round.
        most = 3 if (event, spacing) == ("walk planned", "even") else POINTS[event]
        nth, pause_s = dice.randint(1, most), dice.choice([0, dice.uniform(0, LONGEST_PAUSE_S)])
        wish, toll = new_wish(spacing=spacing), Toll()

        def strike(service: Service, toll=toll, pause_s=pause_s, replica=replica) -> None:
            time.sleep(pause_s)
            toll.kill(scaled, replica or service)

        walk, speaker = struck(scaled, wish, Trap(event, nth, strike), replica)
        with capsys.disabled():
            victim = (replica or speaker).name
            print(f"  {victim} killed {pause_s:.2f} s after {event!r} {nth} of an {spacing} walk: {toll}")
        check(scaled, calm, walk, wish, toll)


def struck(scaled: Scaled, wish: dict[str, Any], trap: Trap, instead: Service | None) -> tuple[dict[str, Any], Service]:
    """Ask for a walk; who falls into the trap, or dies instead, is started again at once. Returns walk and speaker."""
    with scaled.trap(trap), ThreadPoolExecutor(1) as pool:
        asking = pool.submit(scaled.ask_until_taken_in, **wish)
        speaker = trap.sprung()
        (instead or speaker).restart()
        return asking.result(), speaker


def test_killed_between_the_walks_insert_and_its_enqueue(scaled, calm, wish):
    """The visitor saw an error, perhaps none came back; the walk is known, so it arrives although nobody asks again."""
    with scaled.postgres.held("pgqueuer"), ThreadPoolExecutor(1) as pool:
        asking = pool.submit(httpx.post, scaled.url + "/api/v1/walks", json=wish, timeout=30)
        said = len(scaled.web.said("walk taken in"))
        wait_until(lambda: len(scaled.web.said("walk taken in")) > said)
        ports = scaled.web.ports()
        scaled.web.kill()
        scaled.postgres.hang_up_on(ports)
        with pytest.raises(httpx.TransportError):
            asking.result()
        [(walk_id, state)] = scaled.postgres.rows("SELECT id, state FROM walks ORDER BY number DESC LIMIT 1")
        assert state == "waiting"
        assert scaled.jobs(walk_id) == 0
        scaled.web.restart()
    check(scaled, calm, {"url": f"/api/v1/walks/{walk_id}"}, wish, Toll())


def test_killed_between_a_frames_write_and_its_record(scaled, calm, wish):
    """In mid-shard, too: the bucket knows more than the catalogue, and what it knows is not rendered again."""
    toll, killed = Toll(), []

    def kill(line: str, port: int) -> None:
        worker = scaled.worker_at(port)
        toll.kill(scaled, worker)
        killed.append((worker, line))

    scaled.gcs.upon(r"^POST /upload.*frames/.*\.png", kill)
    walk = scaled.ask(**wish)
    [(worker, line)] = wait_until(lambda: killed)
    index = index_of(walk, line)
    assert index not in scaled.landed(walk["id"])
    assert toll.in_flight
    worker.restart()
    check(scaled, calm, walk, wish, toll)


def index_of(walk: dict[str, Any], line: str) -> int:
    """Which frame of a walk a request to the bucket is about."""
    frames = frames_of(WalkSpec.model_validate(walk["spec"]))
    return next(index for index, frame in enumerate(frames) if frame.key in line)


def test_killed_while_filming(scaled, calm, wish):
    """One film lies there and the others lack: they are made by another, and the first one stays."""
    toll, killed = Toll(), []

    def kill(line: str, port: int) -> None:
        worker = scaled.worker_at(port)
        toll.kill(scaled, worker)
        killed.append(worker)

    scaled.gcs.upon(r"^POST /upload.* walks/", kill)
    walk = scaled.ask(**wish)
    [worker] = wait_until(lambda: killed)
    assert scaled.of_walk("state", walk["id"]) == "filming"
    worker.restart()
    check(scaled, calm, walk, wish, toll)


def test_postgresql_restarts_in_mid_walk(scaled, calm, wish):
    """In immediate mode: every connection breaks, every transaction that was open is gone."""
    toll = Toll()

    def stop(_: Service) -> None:
        scaled.postgres.stop()
        toll.in_flight |= scaled.in_flight(*scaled.workers)

    with scaled.trap(Trap("frame stored", 3, stop)) as trap:
        walk = scaled.ask(**wish)
        trap.sprung()
    scaled.postgres.start()
    check(scaled, calm, walk, wish, toll)
    assert all(service.running for service in scaled.api)
    wait_until(lambda: scaled.of_walk("tries", walk["id"]) == 0)


def test_a_worker_that_was_thought_dead_does_no_harm(scaled, calm, wish):
    """Frozen beyond its lease and thawed while another has its shards: both go on, the first frames and films stay."""
    toll = Toll()

    def freeze(service: Service) -> None:
        service.freeze()
        toll.in_flight |= scaled.in_flight(service)

    with scaled.trap(Trap("frame stored", 1, freeze)) as trap:
        walk = scaled.ask(**wish)
        frozen = trap.sprung()
    [other] = [worker for worker in scaled.workers if worker is not frozen]
    assert toll.in_flight
    try:
        wait_until(lambda: toll.in_flight & scaled.asked(other).keys())
    finally:
        frozen.thaw()
    check(scaled, calm, walk, wish, toll)
    assert sum(len(worker.said("walk done", walk=walk["id"])) for worker in scaled.workers) == 1
    # It reports again, so it was no death.
    wait_until(lambda: scaled.of_walk("tries", walk["id"]) == 0)


def test_a_hundred_who_ask_at_once_are_served_by_one_rendering(scaled, calm, wish):
    """A link goes round: one walk, a hundred asks, and each frame rendered once."""
    with ThreadPoolExecutor(100) as pool:
        walks = [asking.result() for asking in [pool.submit(scaled.ask, **wish) for _ in range(100)]]
    [walk_id] = {walk["id"] for walk in walks}
    check(scaled, calm, walks[0], wish, Toll())
    [(asks,)] = scaled.postgres.rows("SELECT count(DISTINCT owner) FROM asks WHERE walk_id = $1", walk_id)
    assert asks == 100


@pytest.fixture(scope="module")
def leased_for_long(starting: Scaled) -> Scaled:
    """From here on nobody takes over what another worker has, for ten minutes."""
    for worker in starting.workers:
        worker.restart(MOMALISA_LEASE_S="600")
    starting.wait_until_ready()
    return starting


def test_a_withdrawn_ask_stops_the_workers(leased_for_long):
    """Asked of the web process, it ends what the workers have in hand; most of the walk is never asked of a replica."""
    scaled, wish = leased_for_long, new_wish(frames=241, steps=12)
    with httpx.Client(base_url=scaled.url, timeout=30) as visitor:
        walk = visitor.post("/api/v1/walks", json=wish).json()
        wait_until(lambda: scaled.landed(walk["id"]))
        before = scaled.asked()
        assert visitor.delete(walk["url"]).json()["state"] == "cancelled"
    # Long enough for all that was under way: another walk goes all the way through the same line.
    assert scaled.ended(scaled.ask(**new_wish()))["state"] == "done"
    keys = {frame.key for frame in frames_of(WalkSpec.model_validate(walk["spec"]))}
    after = sum((scaled.asked() - before)[key] for key in keys)
    assert after <= 2 * REPLICAS * 5
    assert sum(scaled.rendered()[key] for key in keys) < 241 / 2
    assert scaled.read(walk)["state"] == "cancelled"


def test_a_worker_that_is_told_to_stop_gives_its_shards_back(leased_for_long, calm, wish):
    """Each deploy stops every worker: nobody should have to wait for a lease to run out."""
    scaled = leased_for_long
    with scaled.trap(Trap("shard begun", 1, Service.tell_to_stop)) as trap:
        walk = scaled.ask(**wish)
        stopped = trap.sprung()
    assert stopped.process.wait(10) == 0
    check(scaled, calm, walk, wish, Toll(scaled.in_flight(stopped), filmings=1))
    assert scaled.of_walk("tries", walk["id"]) == 0
