"""bench/gpu.py at toy size: GPU machines are lent by the minute, too short to find out there that it does not run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil

from tests.support.model_server import wait_until
from tests.support.processes import REPOSITORY, start


def test_all_figures_are_printed_and_a_model_that_fails_costs_only_its_own(tmp_path: Path):
    """The process of the first model is killed, as by the system when memory is short."""
    out = tmp_path / "figures.jsonl"
    command = [sys.executable, str(REPOSITORY / "bench" / "gpu.py"), "--models", "klein-4b", "sd15", "--out", str(out)]
    running = start(command, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: psutil.Process(running.pid).children(), 100)
    psutil.Process(running.pid).children()[0].kill()
    printed, _ = running.communicate(timeout=200)
    assert running.returncode == 0
    assert "klein-4b: ended with status -9" in printed
    assert printed.count("sd15 on cpu; bfloat16 matrix product: ") == 1
    figures = [json.loads(line) for line in out.read_text().splitlines()]
    assert {one["model"] for one in figures} == {"sd15"}
    (peak,) = (one["peak_flops"] for one in figures if "peak_flops" in one)
    (stock,) = (one for one in figures if one.get("micro_batch") == 0)
    (served,) = (one for one in figures if one.get("micro_batch"))
    assert stock["mfu"] == stock["frames_per_s"] * stock["flops"] / peak > 0
    assert served["times_stock"] == served["frames_per_s"] / stock["frames_per_s"]
    assert served["mfu"] == served["frames_per_s"] * stock["flops"] / peak
    assert served["busy"] > 0
    assert "memory_gib" in served
    row = next(line for line in printed.splitlines() if line.startswith("micro-batch   2 "))
    assert all(name in row for name in ("frames/s", "MFU", "x stock", "busy", "GiB"))
