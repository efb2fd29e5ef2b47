"""`momalisa-model tune` on a small model: it prints a card, stays within the memory, and stops at Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch

from momalisa_model import tune as tune_module
from momalisa_model.model_card import read_card
from momalisa_model.tune import Measured, best, measure_sizes, tune
from momalisa_model.weights import load
from momalisa_model.wire import ModelCard


@contextmanager
def most_frames(weights, most: int):
    """The device has memory for so many frames at once, with classifier-free guidance."""

    def check(_unet: object, given: tuple[torch.Tensor, ...]) -> None:
        if len(given[0]) > 2 * most:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = weights.pipeline.unet.register_forward_pre_hook(check)
    try:
        yield
    finally:
        hook.remove()


def test_tune_prints_a_card_for_this_model(settings_for, capsys):
    """The output can be saved as it is; the progress is not part of it."""
    settings = settings_for("plain")
    tune(settings, 1.0)
    printed = capsys.readouterr()
    # The log of tests is on standard output, too.
    card = ModelCard.model_validate_json(printed.out[printed.out.index("{\n") :])
    expected = read_card(load(settings), settings)
    assert card.model_copy(update={"micro_batch": expected.micro_batch}) == expected
    assert f"best: {card.micro_batch}." in printed.err


def test_sizes_that_do_not_fit_into_the_memory_end_the_search(settings_for, capsys):
    """The larger ones would not fit either, and what fits is still measured."""
    settings = settings_for("plain")
    weights = load(settings)
    card = read_card(weights, settings)
    with most_frames(weights, 2):
        sizes = [one.micro_batch for one in measure_sizes(weights, card, 1.0)]
    assert sizes == [1, 2]
    assert "3   does not fit" in capsys.readouterr().err
    with most_frames(weights, 0), pytest.raises(torch.OutOfMemoryError):
        list(measure_sizes(weights, card, 1.0))


def test_memory_is_measured_on_systems_without_the_counters_of_linux(monkeypatch):
    """A Mac has no SC_AVPHYS_PAGES. On Linux, it leaves out memory that the cache of files would give back."""
    monkeypatch.setattr(os, "sysconf", {}.__getitem__)
    left, total = (measure(torch.device("cpu")) for measure in (tune_module._memory_left, tune_module._total_memory))
    assert 0 < left < total


def test_sizes_beyond_the_allowed_share_of_the_memory_are_not_chosen(settings_for, monkeypatch):
    """Other sizes of frames than the default need some memory, too."""
    settings = settings_for("plain")
    weights = load(settings)
    left = iter([80, 20, 9])
    monkeypatch.setattr(tune_module, "_total_memory", lambda _: 100)
    monkeypatch.setattr(tune_module, "_memory_left", lambda _: next(left))
    sizes = [one.micro_batch for one in measure_sizes(weights, read_card(weights, settings), 0.9)]
    assert sizes == [1, 2]


@pytest.mark.parametrize(
    ("rates", "chosen"), [([1.0], 1), ([1.0, 1.5, 2.0], 4), ([1.0, 1.99, 2.0], 2), ([2.0, 1.0, 2.05], 1)]
)
def test_a_larger_micro_batch_must_bring_something(rates, chosen):
    """It delays the first frame."""
    assert best([Measured(2**power, rate, 1.0, 0) for power, rate in enumerate(rates)]).micro_batch == chosen


def test_ctrl_c_ends_tune_without_a_traceback(models):
    """Measuring takes minutes on a large model."""
    environment = os.environ | {"MODEL_ID": str(models["plain"]), "MOMALISA_THREADS": "1", "MOMALISA_DEVICE": "cpu"}
    command = [sys.executable, "-m", "momalisa_model.command", "tune"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        while "micro-batch" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        printed, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert printed == ""
    assert "Traceback" not in told


@pytest.mark.parametrize("share", ["0", "1.1", "nan", "much"])
def test_an_impossible_share_of_the_memory_is_refused(share):
    """Before the weights are loaded."""
    from momalisa_model import command

    with pytest.raises(SystemExit):
        command.main(["tune", "--memory", share])
