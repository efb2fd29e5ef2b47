"""The best micro-batch: throughput and seconds to the first frame, with replicas that share the machine.

    python bench/microbatch.py [--replicas 2] [--threads 1] [--sizes 1 2 3 4 5 6 7 8 12]

Each replica is a separate process and renders at the same time as the others, as under `make up`. The embedded model's
micro-batch is the one with the best throughput among those whose first frame takes at most 1.5 s.
"""

from __future__ import annotations

import argparse
import math
import statistics
from multiprocessing import get_context
from time import perf_counter

FIRST_FRAME_S = 1.5
ROUNDS = 4
WALKS = (13, 25, 49, 61)


def replica(sizes: list[int], threads: int, together, results) -> None:
    """Measure each size in step with the other replicas. Puts (size, seconds of each round) into results."""
    from sampler import recipe_for

    from momalisa_model.engines.sampler import Sampler
    from momalisa_model.lifecycle import load_model
    from momalisa_model.settings import Settings

    ready = load_model(Settings(threads=threads))
    recipe = recipe_for(ready)
    for size in sizes:
        sampler = Sampler(ready.engine.sampler.weights, size)
        sampler.warm_up(ready.answer.card)
        rounds = []
        for _ in range(ROUNDS):
            together.wait()
            began = perf_counter()
            frames = list(sampler.frames(recipe, sampler.encode(recipe), [i / size for i in range(size)]))
            assert len(frames) == size
            rounds.append(perf_counter() - began)
        results.put((size, rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6, 7, 8, 12])
    chosen = parser.parse_args()
    context = get_context("spawn")
    together, results = context.Barrier(chosen.replicas), context.Queue()
    work = (chosen.sizes, chosen.threads, together, results)
    processes = [context.Process(target=replica, args=work) for _ in range(chosen.replicas)]
    for process in processes:
        process.start()
    seconds: dict[int, list[float]] = {size: [] for size in chosen.sizes}
    for _ in range(chosen.replicas * len(chosen.sizes)):
        size, rounds = results.get(timeout=600)
        seconds[size] += rounds
    for process in processes:
        process.join()
    print(f"{chosen.replicas} replicas, {chosen.threads} threads each")
    print("micro-batch   frames/s, all replicas   first frame, s   seconds for a walk of " + ", ".join(map(str, WALKS)))
    for size, rounds in seconds.items():
        first = statistics.median(rounds)
        late = "" if first <= FIRST_FRAME_S else "   too late"
        # A partly filled micro-batch takes as long as a full one.
        walks = [first * math.ceil(math.ceil(frames / size) / chosen.replicas) for frames in WALKS]
        columns = "  ".join(f"{walk:5.2f}" for walk in walks)
        print(f"{size:11}   {chosen.replicas * size / first:22.2f}   {first:14.2f}   {columns}{late}")


if __name__ == "__main__":
    main()
