"""Simulated deployments of up to 1,000 replicas and 1,000 walks, and what the bookkeeping of one shard costs.

    python bench/simulation.py [REPLICAS WALKS]

The planner, the dispatcher and the tags of the fair queue are the product's own. Replicas, pictures and the job queue
are simulated, in simulated time: a shard takes SHARD_S give or take SPREAD, a call of the bucket BUCKET_S, and each
step in the catalogue CATALOGUE_S. All walks are default walks (even, automatic seed) and arrive at once. Then the
product's own workers do the same bookkeeping in real time on PostgreSQL, with replicas that answer at once.
"""

import logging
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

import anyio
import structlog
from rig.bookkeeping import measured
from rig.clock import JumpingLoop
from rig.simulated import Jobs, SimulatedFleet, SimulatedReplica, place

from momalisa_api.fleet.fleet import Fleet
from momalisa_api.fleet.wire import RenderedFrame
from momalisa_api.store.fair_queue import TURNS_OF_NETWORK
from momalisa_api.walks.forecast import most_pictures
from momalisa_api.walks.growth import Capacity, choose_growth
from momalisa_api.walks.rounds import Layout, Point, first_layout, next_layout, with_growth
from momalisa_api.walks.spec import Frame, Shard, WalkSpec, plan_shards
from tests.support.factories import KEY, spec

MICRO_BATCH: Final = 8
SHARD_S, SPREAD = 1.0, 0.1
BUCKET_S, CATALOGUE_S = 0.05, 0.005
FRAMES: Final = 25
WORKERS: Final = 2
# The default of MOMALISA_MAX_SHARDS_IN_FLIGHT, or enough for all replicas.
IN_FLIGHT: Final = 128
# What docs/operations.md advises for 4 replicas.
OF_FEW: Final = 16


@dataclass(eq=False)
class SimulatedWalk:
    """A walk from its request to its last frame. Times are seconds of the simulation; negative: not yet."""

    spec: WalkSpec
    owner: str
    tag: int
    arrived: float
    layout: Layout
    network: str | None = None
    fingerprint: str | None = None
    stored: set[Frame] = field(default_factory=set)
    missing: int = 0
    shards: int = 0
    rounds: int = 0
    first: float = -1.0
    done: float = -1.0


class Simulation:
    """Walks on simulated replicas. `run` returns when all are done."""

    def __init__(self, replicas: Sequence[SimulatedReplica], workers: int = WORKERS) -> None:
        self.replicas = list(replicas)
        self._workers = workers
        self.walks: list[SimulatedWalk] = []
        self._jobs = Jobs()
        self._changed = anyio.Event()

    def request(self, owner: str, number: int, network: str | None = None) -> None:
        """Accept a walk with a tag of the fair queue (store/fair_queue.py, `next_tag`)."""
        whole = spec((f"{owner} {number}", "a battleship"), FRAMES, spacing="even", seed="auto")
        unfinished = [walk for walk in self.walks if walk.done < 0]
        begun = max((walk.tag for walk in unfinished if walk.first >= 0), default=None)
        now = begun if begun is not None else min((walk.tag for walk in unfinished), default=0)
        theirs = [walk.tag + most_pictures(walk.spec) for walk in unfinished if walk.owner == owner]
        turn = now * TURNS_OF_NETWORK
        of_network = [
            (walk.tag, most_pictures(walk.spec)) for walk in unfinished if network and walk.network == network
        ]
        for tag, frames in sorted(of_network):
            if tag > -(-turn // TURNS_OF_NETWORK):
                break
            turn += frames
        tag = max([now, -(-turn // TURNS_OF_NETWORK), *theirs])
        walk = SimulatedWalk(whole, owner, tag, anyio.current_time(), first_layout(whole), network)
        self.walks.append(walk)
        self._jobs.put_plan(walk.tag, partial(self._plan, walk))

    async def run(self, in_flight: int, later: Sequence[tuple[float, str]] = ()) -> None:
        """Serve until all walks are done. later: further requests, each with its time and owner."""
        async with anyio.create_task_group() as tasks:
            for _ in range(self._workers):
                tasks.start_soon(self._jobs.work, SimulatedFleet(self.replicas), in_flight)
            for at, owner in later:
                await anyio.sleep_until(at)
                self.request(owner, len(self.walks))
            while any(walk.done < 0 for walk in self.walks):
                await self._changed.wait()
                self._changed = anyio.Event()
            tasks.cancel_scope.cancel()

    async def _plan(self, walk: SimulatedWalk, fleet: Fleet) -> None:
        """As Studio._plan does it."""
        await anyio.sleep(2 * CATALOGUE_S + BUCKET_S)
        await fleet.wait_awake(KEY)
        unfinished = [other for other in self.walks if other.done < 0]
        if walk.fingerprint is None:
            load = dict[str, int]()
            for other in unfinished:
                if other.fingerprint:
                    load[other.fingerprint] = load.get(other.fingerprint, 0) + FRAMES
            walk.fingerprint = fleet.holders(KEY).fingerprint_for(FRAMES, load)
        capacity = Capacity(MICRO_BATCH, fleet.holders(KEY).size, len(unfinished))
        layout = with_growth(walk.spec, walk.layout, choose_growth(walk.spec.effort, walk.spec.legs, capacity))
        while not layout.settled and walk.stored.issuperset(layout.frames(walk.spec)):
            layout = next_layout(walk.spec, layout, partial(_seen, walk.spec.id))
        walk.layout = layout
        missing = [frame for frame in layout.frames(walk.spec) if frame not in walk.stored]
        if not missing:
            walk.done = anyio.current_time()
            self._changed.set()
            return
        shards = plan_shards(walk.spec.id, missing, MICRO_BATCH)
        walk.missing, walk.rounds, walk.shards = len(shards), walk.rounds + 1, walk.shards + len(shards)
        for shard in shards:
            self._jobs.put_shard(walk.tag, partial(self._render, walk, shard))

    async def _render(self, walk: SimulatedWalk, shard: Shard, fleet: Fleet) -> None:
        """As Studio._render does it: its frames are stored at once, and noted in one batch."""
        await anyio.sleep(CATALOGUE_S + BUCKET_S)
        async for event in fleet.render(shard, walk.tag, walk.fingerprint):
            if isinstance(event, RenderedFrame):
                walk.stored.add(Frame(shard.recipe, event.fraction))
        await anyio.sleep(BUCKET_S + 2 * CATALOGUE_S)
        if walk.first < 0:
            walk.first = anyio.current_time()
        walk.missing -= 1
        if not walk.missing:
            self._jobs.put_plan(walk.tag, partial(self._plan, walk))


def _seen(walk_id: str, point: Point) -> object:
    return place(walk_id, point)


def fleet_of(count: int, kinds: str = "a") -> list[SimulatedReplica]:
    return [
        SimulatedReplica(f"http://replica-{number}", SHARD_S, SPREAD, kinds[number % len(kinds)])
        for number in range(count)
    ]


def simulated(main, *arguments):  # type: ignore[no-untyped-def]
    random.seed(0)
    return anyio.run(main, *arguments, backend_options={"loop_factory": JumpingLoop})


async def burst(replicas: int, walks: int, kinds: str = "a") -> str:
    """A line about walks of as many owners that arrive at once."""
    simulation = Simulation(fleet_of(replicas, kinds))
    for number in range(walks):
        simulation.request(f"owner {number}", number)
    began = time.process_time()
    await simulation.run(max(IN_FLIGHT, replicas))
    used_s = time.process_time() - began
    done = simulation.walks
    shards, rounds = sum(walk.shards for walk in done), max(walk.rounds for walk in done)
    makespan_s = max(walk.done for walk in done)
    ideal_s = max(shards * SHARD_S / replicas, rounds * SHARD_S)
    firsts = sorted(walk.first - walk.arrived for walk in done)
    busy = sum(replica.busy_s for replica in simulation.replicas) / replicas / makespan_s
    return (
        f"{replicas:8} {walks:6} {shards / walks:7.1f} {rounds:6} {makespan_s:9.1f} {makespan_s / ideal_s:6.2f} "
        f"{median(firsts):7.1f} {firsts[-1]:7.1f} {busy:6.2f} "
        # The start of the replicas' tasks would be most of it.
        f"{f'{1000 * used_s / shards:9.1f}' if shards > replicas else '-':>9}"
    )


async def flood(walks: int, networks: int) -> str:
    """A line about ten honest callers, one after the other, while new owners have so many walks in so many networks."""
    alone, simulation = Simulation(fleet_of(4), 1), Simulation(fleet_of(4), 1)
    alone.request("honest", 0, "home")
    await alone.run(OF_FEW)
    for number in range(walks):
        simulation.request(f"cookie {number}", number, f"network {number % networks}")
    await simulation.run(OF_FEW, [(5.0 + 20 * number, f"honest {number}") for number in range(10)])
    honest = [walk.done - walk.arrived for walk in simulation.walks if walk.owner.startswith("honest")]
    alone_s = alone.walks[0].done - alone.walks[0].arrived
    return (
        f"{walks:4} walks from {networks:4} networks: done after {fmean(honest) / alone_s:.1f} times as long as alone, "
        f"{max(honest) / alone_s:.1f} at most"
    )


async def fairness(workers: int, in_flight: int) -> str:
    """A line about ten owners who request one walk each, one after the other, while one owner has 100."""
    simulation = Simulation(fleet_of(4), workers)
    for number in range(100):
        simulation.request("many", number)
    await simulation.run(in_flight, [(5.0 + 2 * number, f"owner {number}") for number in range(10)])
    one = [walk for walk in simulation.walks if walk.owner != "many"]
    took = [walk.done - walk.arrived for walk in one]
    return (
        f"{workers} workers, {in_flight:3} shards in flight each: first picture after "
        f"{fmean(walk.first - walk.arrived for walk in one):.1f} s, done after {fmean(took):.1f} s, {max(took):.1f} at "
        f"most; the 100 after {max(walk.done for walk in simulation.walks):.1f} s"
    )


def main(replicas: int = 0, walks: int = 0) -> None:
    """Without a size: all of them, then two kinds of replicas, fairness, and the bookkeeping."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    print(
        f"default walks of {FRAMES} frames, micro-batch {MICRO_BATCH}, {SHARD_S} s a shard +-{SPREAD:.0%}, "
        f"{1000 * BUCKET_S:.0f} ms a call of the bucket, {WORKERS} workers"
    )
    print(
        f"{'replicas':>8} {'walks':>6} {'shards':>7} {'rounds':>6} {'makespan':>9} {'ideal':>6} {'first':>7} "
        f"{'last':>7} {'busy':>6} {'ms/shard':>9}"
    )
    for size in [(replicas, walks)] if walks else SIZES:
        print(simulated(burst, *size), flush=True)
    if walks:
        return
    print("two fingerprints, half of the replicas each:")
    for replicas, walks in ((16, 1), (16, 100)):
        print(simulated(burst, replicas, walks, "ab"), flush=True)
    print("4 replicas, 100 walks of one owner, and ten owners who request one walk each beside them:")
    for workers, in_flight in ((1, 128), (2, 8), (2, 16), (2, 32), (2, 128)):
        print(simulated(fairness, workers, in_flight), flush=True)
    print("4 replicas, a walk each of as many new owners, and ten honest callers, one after the other, beside them:")
    for walks, networks in ((250, 1), (250, 250), (1000, 1000)):
        print(simulated(flood, walks, networks), flush=True)
    print(measured())


SIZES: Final = [
    (replicas, walks)
    for replicas in (4, 16, 64, 256, 1000)
    for walks in (1, 10, 100, 1000)
    # More walks on few replicas only take longer.
    if walks <= max(100, 4 * replicas)
]

if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
