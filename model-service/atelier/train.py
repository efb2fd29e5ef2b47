"""Trains the atelier from scratch: `python -m atelier.train --out DIR --minutes 110`. It continues after a restart."""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from atelier.training import Plan, Training


def run(training: Training) -> None:
    """Train until the end of the plan. Its minutes include pauses of the process."""
    plan, began = training.plan, time.monotonic() - training.tally.spent_s
    acts: list[tuple[Callable[[], None], float]] = [
        (training.report, 10),
        (training.save, plan.checkpoint_minutes * 60),
        (training.show, plan.show_minutes * 60),
        (training.export, plan.export_minutes * 60),
    ]
    due = [training.tally.spent_s + every_s for _, every_s in acts]
    while training.progress < 1:
        training.advance()
        for i, (act, every_s) in enumerate(acts):
            training.tally.spent_s = time.monotonic() - began
            if training.tally.spent_s >= due[i]:
                due[i] = training.tally.spent_s + every_s
                act()
    for act, _ in acts:
        act()


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and the contact sheets")
    parser.add_argument("--weights", type=Path, nargs="*", default=[], help="folders to write the pipeline to")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this time")
    parser.add_argument("--samples", type=float, default=math.inf, help="stop after this number of pictures")
    parser.add_argument("--batch", type=int, default=32, help="pictures in one step")
    parser.add_argument("--seed", type=int, default=0, help="decides initial weights and batches")
    parser.add_argument("--variations", type=int, default=1, help="layouts of each kind; 1: only the fixed one")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: torch decides")
    parser.add_argument(
        "--painters", type=int, default=0, help="processes that paint in advance; a GPU needs about twelve"
    )
    parser.add_argument("--from", dest="start", type=Path, help="weights to start from if there is no checkpoint")
    options = parser.parse_args()
    if math.inf == options.minutes == options.samples:
        parser.error("set --minutes or --samples")
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    limits = (options.minutes, options.samples, options.batch, options.seed, options.variations)
    more = {"painters": options.painters, "start": options.start}
    run(Training(Plan(options.out, tuple(options.weights), *limits, **more)))


if __name__ == "__main__":
    _main()
