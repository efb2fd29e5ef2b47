"""Every walk completes and is rendered once, when a process is killed, frozen or stopped at a bad moment."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from momalisa_api.walks.spec import WalkSpec
from tests.support.factories import frames_of
from tests.support.processes import Service, Trap, wait_until
from tests.support.scaled import REPLICAS, Scaled
from tests.support.takeovers import Toll, check, new_request


def test_killed_between_the_walks_insert_and_its_enqueue(scaled, calm, walk_request):
    """The visitor saw an error, perhaps none came back; the walk is known, so it arrives although nobody asks again."""
    with scaled.postgres.locked("pgqueuer"), ThreadPoolExecutor(1) as pool:
        asking = pool.submit(httpx.post, scaled.url + "/api/v1/walks", json=walk_request, timeout=30)
        said = len(scaled.web.logged("walk accepted"))
        wait_until(lambda: len(scaled.web.logged("walk accepted")) > said)
        ports = scaled.web.ports()
        scaled.web.kill()
        scaled.postgres.terminate_sessions(ports)
        with pytest.raises(httpx.TransportError):
            asking.result()
        [(walk_id, state)] = scaled.postgres.rows("SELECT id, state FROM walks ORDER BY number DESC LIMIT 1")
        assert state == "waiting"
        assert scaled.jobs(walk_id) == 0
        scaled.web.restart()
    check(scaled, calm, {"url": f"/api/v1/walks/{walk_id}"}, walk_request, Toll())


def test_killed_between_a_frames_write_and_its_record(scaled, calm, walk_request):
    """In mid-shard, too: the bucket knows more than the catalogue, and what it knows is not rendered again."""
    toll, killed = Toll(), []

    def kill(line: str, port: int) -> None:
        worker = scaled.worker_at(port)
        toll.kill(scaled, worker)
        killed.append((worker, line))

    scaled.gcs.on_request(r"^POST /upload.*frames/.*\.png", kill)
    walk = scaled.request_walk(**walk_request)
    [(worker, line)] = wait_until(lambda: killed)
    index = index_of(walk, line)
    assert index not in scaled.stored_frames(walk["id"])
    assert toll.in_flight
    worker.restart()
    check(scaled, calm, walk, walk_request, toll)


def index_of(walk: dict[str, Any], line: str) -> int:
    """Which frame of a walk a request to the bucket is about."""
    frames = frames_of(WalkSpec.model_validate(walk["spec"]))
    return next(index for index, frame in enumerate(frames) if frame.key in line)


def test_killed_while_filming(scaled, calm, walk_request):
    """One film lies there and the others lack: they are made by another, and the first one stays."""
    toll, killed = Toll(), []

    def kill(line: str, port: int) -> None:
        worker = scaled.worker_at(port)
        toll.kill(scaled, worker)
        killed.append(worker)

    scaled.gcs.on_request(r"^POST /upload.* walks/", kill)
    walk = scaled.request_walk(**walk_request)
    [worker] = wait_until(lambda: killed)
    assert scaled.walk_column("state", walk["id"]) == "filming"
    worker.restart()
    check(scaled, calm, walk, walk_request, toll)


def test_postgresql_restarts_in_mid_walk(scaled, calm, walk_request):
    """In immediate mode: every connection breaks, every transaction that was open is gone."""
    toll = Toll()

    def stop(_: Service) -> None:
        scaled.postgres.stop()
        toll.in_flight |= scaled.in_flight(*scaled.workers)

    with scaled.trap(Trap("frame stored", 3, stop)) as trap:
        walk = scaled.request_walk(**walk_request)
        trap.wait()
    scaled.postgres.start()
    check(scaled, calm, walk, walk_request, toll)
    assert all(service.running for service in scaled.api)
    wait_until(lambda: scaled.walk_column("tries", walk["id"]) == 0)


def test_a_worker_that_was_thought_dead_does_no_harm(scaled, calm, walk_request):
    """Frozen beyond its lease and thawed while another has its shards: both go on, the first frames and films stay."""
    toll = Toll()

    def freeze(service: Service) -> None:
        service.freeze()
        toll.in_flight |= scaled.in_flight(service)

    with scaled.trap(Trap("frame stored", 1, freeze)) as trap:
        walk = scaled.request_walk(**walk_request)
        frozen = trap.wait()
    [other] = [worker for worker in scaled.workers if worker is not frozen]
    assert toll.in_flight
    try:
        wait_until(lambda: toll.in_flight & scaled.requested(other).keys())
    finally:
        frozen.resume()
    check(scaled, calm, walk, walk_request, toll)
    assert sum(len(worker.logged("walk done", walk=walk["id"])) for worker in scaled.workers) == 1
    # It reports again, so it was no death.
    wait_until(lambda: scaled.walk_column("tries", walk["id"]) == 0)


def test_a_hundred_who_ask_at_once_are_served_by_one_rendering(scaled, calm, walk_request):
    """A link goes round: one walk, a hundred asks, and each frame rendered once."""
    with ThreadPoolExecutor(100) as pool:
        walks = [asking.result() for asking in [pool.submit(scaled.request_walk, **walk_request) for _ in range(100)]]
    [walk_id] = {walk["id"] for walk in walks}
    check(scaled, calm, walks[0], walk_request, Toll())
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
    scaled, walk_request = leased_for_long, new_request(frames=241, steps=12)
    with httpx.Client(base_url=scaled.url, timeout=30) as visitor:
        walk = visitor.post("/api/v1/walks", json=walk_request).json()
        wait_until(lambda: scaled.stored_frames(walk["id"]))
        before = scaled.requested()
        assert visitor.delete(walk["url"]).json()["state"] == "cancelled"
    # Long enough for all that was under way: another walk goes all the way through the same line.
    assert scaled.ended(scaled.request_walk(**new_request()))["state"] == "done"
    keys = {frame.key for frame in frames_of(WalkSpec.model_validate(walk["spec"]))}
    after = sum((scaled.requested() - before)[key] for key in keys)
    assert after <= 2 * REPLICAS * 5
    assert sum(scaled.rendered()[key] for key in keys) < 241 / 2
    assert scaled.read(walk)["state"] == "cancelled"


def test_a_worker_that_is_told_to_stop_gives_its_shards_back(leased_for_long, calm, walk_request):
    """Each deploy stops every worker: nobody should have to wait for a lease to run out."""
    scaled = leased_for_long
    with scaled.trap(Trap("shard started", 1, Service.terminate)) as trap:
        walk = scaled.request_walk(**walk_request)
        stopped = trap.wait()
    assert stopped.process.wait(10) == 0
    check(scaled, calm, walk, walk_request, Toll(scaled.in_flight(stopped), filmings=1))
    assert scaled.walk_column("tries", walk["id"]) == 0
