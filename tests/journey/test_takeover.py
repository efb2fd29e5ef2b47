"""Every walk completes and is rendered once, even if a process is killed, frozen or stopped at a bad moment."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from momalisa_api.walks.between import BetweenSpec
from tests.support.factories import frames_of
from tests.support.processes import Service, Trap, wait_until
from tests.support.scaled import REPLICAS, Scaled
from tests.support.takeovers import Toll, check, new_request


def test_a_walk_completes_after_a_kill_between_its_insert_and_its_enqueue(scaled, calm, walk_request):
    """The visitor may have seen an error, but the walk is in the catalogue, so it completes without a retry."""
    with scaled.postgres.locked("pgqueuer"), ThreadPoolExecutor(1) as pool:
        pending = pool.submit(httpx.post, scaled.url + "/api/v1/walks", json=walk_request, timeout=30)
        before = len(scaled.web.logged("walk accepted"))
        wait_until(lambda: len(scaled.web.logged("walk accepted")) > before)
        ports = scaled.web.ports()
        scaled.web.kill()
        scaled.postgres.terminate_sessions(ports)
        with pytest.raises(httpx.TransportError):
            pending.result()
        [(walk_id, state)] = scaled.postgres.rows("SELECT id, state FROM walks ORDER BY number DESC LIMIT 1")
        assert state == "waiting"
        assert scaled.jobs(walk_id) == 0
        scaled.web.restart()
    check(scaled, calm, {"url": f"/api/v1/walks/{walk_id}"}, walk_request, Toll())


def test_a_walk_completes_after_a_kill_between_a_frames_write_and_its_record(scaled, calm, walk_request):
    """Also in the middle of a shard: frames in the bucket that the catalogue does not list are not rendered again."""
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
    """The index of the frame in a request to the bucket."""
    frames = frames_of(BetweenSpec.model_validate(walk["spec"]))
    return next(index for index, frame in enumerate(frames) if frame.key in line)


def test_a_walk_completes_after_a_kill_during_filming(scaled, calm, walk_request):
    """One film is stored and the others are missing: another worker makes them, and the first film stays."""
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


def test_a_walk_completes_after_a_restart_of_postgresql(scaled, calm, walk_request):
    """In immediate mode: every connection breaks, and every open transaction is lost."""
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


def test_a_worker_that_was_wrongly_thought_dead_does_no_harm(scaled, calm, walk_request):
    """It is frozen beyond its lease and resumed while another renders its shards: the first frames and films stay."""
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
    # The worker reports again, so it does not count as lost.
    wait_until(lambda: scaled.walk_column("tries", walk["id"]) == 0)


def test_a_hundred_concurrent_requests_for_a_walk_render_it_once(scaled, calm, walk_request):
    """A popular link: one walk, a hundred requests, and each frame is rendered once."""
    with ThreadPoolExecutor(100) as pool:
        pending = [pool.submit(scaled.request_walk, **walk_request) for _ in range(100)]
        walks = [response.result() for response in pending]
    [walk_id] = {walk["id"] for walk in walks}
    check(scaled, calm, walks[0], walk_request, Toll())
    [(requests,)] = scaled.postgres.rows("SELECT count(DISTINCT owner) FROM asks WHERE walk_id = $1", walk_id)
    assert requests == 100


@pytest.fixture(scope="module")
def leased_for_long(starting: Scaled) -> Scaled:
    """From here on, no worker takes over the jobs of another for ten minutes."""
    for worker in starting.workers:
        worker.restart(MOMALISA_LEASE_S="600")
    starting.wait_until_ready()
    return starting


def test_a_withdrawn_request_stops_the_workers(leased_for_long):
    """A request to the web process stops the shards of the workers; most frames are never requested from a replica."""
    scaled, walk_request = leased_for_long, new_request(frames=241, steps=12)
    with httpx.Client(base_url=scaled.url, timeout=30) as visitor:
        walk = visitor.post("/api/v1/walks", json=walk_request).json()
        wait_until(lambda: scaled.stored_frames(walk["id"]))
        before = scaled.requested()
        assert visitor.delete(walk["url"]).json()["state"] == "cancelled"
    # Another walk through the same queue takes long enough for all work in progress to end.
    assert scaled.ended(scaled.request_walk(**new_request()))["state"] == "done"
    keys = {frame.key for frame in frames_of(BetweenSpec.model_validate(walk["spec"]))}
    after = sum((scaled.requested() - before)[key] for key in keys)
    assert after <= 2 * REPLICAS * 5
    assert sum(scaled.rendered()[key] for key in keys) < 241 / 2
    assert scaled.read(walk)["state"] == "cancelled"


def test_a_terminated_worker_returns_its_shards(leased_for_long, calm, walk_request):
    """Each deploy stops every worker: walks must not wait until a lease expires."""
    scaled = leased_for_long
    with scaled.trap(Trap("shard started", 1, Service.terminate)) as trap:
        walk = scaled.request_walk(**walk_request)
        stopped = trap.wait()
    assert stopped.process.wait(10) == 0
    check(scaled, calm, walk, walk_request, Toll(scaled.in_flight(stopped), filmings=1))
    assert scaled.walk_column("tries", walk["id"]) == 0
