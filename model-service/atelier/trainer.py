"""Trains one small network: its loop, learning rate, moving average, and a checkpoint from which it continues."""

import argparse
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

KEPT_OF_AVERAGE: Final = 0.998
SAVE_EVERY_S: Final = 120.0
FIGURE_EVERY_SAVES: Final = 5


class Trainer(ABC):
    """One training. A step's number decides what is new in its batch, so that a checkpoint needs no random state."""

    # Their classes are those of diffusers and transformers, which have no common type.
    network: Any
    average: Any
    # Half precision in what gains from it: a quarter to two thirds faster where the processor has it.
    bfloat16 = False

    def __init__(self, network: nn.Module, average: nn.Module, checkpoint: Path, minutes: float, rate: float) -> None:
        """average: a network of the same kind, which becomes the moving average; minutes: of the whole training."""
        self.network, self.average, self.checkpoint = network, average, checkpoint
        self.minutes, self.highest_rate = minutes, rate
        self.average.load_state_dict(network.state_dict())
        self.average.requires_grad_(False).eval()
        self.optimiser = torch.optim.AdamW(network.parameters(), rate, betas=(0.9, 0.99), weight_decay=0.01)
        self.step, self.spent_s, self.mean_loss = 0, 0.0, math.nan
        if checkpoint.exists():
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
            for name in ("network", "average", "optimiser"):
                getattr(self, name).load_state_dict(state[name])
            self.step, self.spent_s, self.mean_loss = state["tally"]

    @abstractmethod
    def loss(self) -> Tensor:
        """The loss of the batch of the current step."""

    @abstractmethod
    def figure(self) -> str:
        """How good the average is on held-out pictures, in words."""

    def save(self) -> None:
        """Write the checkpoint."""
        state: dict[str, Any] = {name: getattr(self, name).state_dict() for name in ("network", "average", "optimiser")}
        fresh = self.checkpoint.with_suffix(".fresh")
        torch.save({**state, "tally": (self.step, self.spent_s, self.mean_loss)}, fresh)
        fresh.replace(self.checkpoint)

    def rate(self) -> float:
        """The learning rate: rises during 200 steps, and falls during the last half."""
        fall = min(1.0, max(0.0, 2 * self.spent_s / 60 / self.minutes - 1))
        rise = min(1.0, (self.step + 1) / 200)
        return self.highest_rate * rise * (0.01 + 0.99 * (1 + math.cos(math.pi * fall)) / 2)

    def advance(self) -> None:
        """Train for one step."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            loss = self.loss()
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.mean_loss = loss.item() if math.isnan(self.mean_loss) else 0.99 * self.mean_loss + 0.01 * loss.item()
        self.step += 1
        kept = min(KEPT_OF_AVERAGE, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            newest = [weight.detach() for weight in self.network.parameters()]
            torch._foreach_lerp_(list(self.average.parameters()), newest, 1 - kept)

    def run(self) -> None:
        """Train until the time is over. Saves every two minutes, and prints how it goes."""
        began, saved, saves = time.monotonic() - self.spent_s, time.monotonic(), 0
        while self.spent_s < 60 * self.minutes:
            self.advance()
            self.spent_s = time.monotonic() - began
            if time.monotonic() > saved + SAVE_EVERY_S:
                self.save()
                saved, saves = time.monotonic(), saves + 1
                figure = f"  {self.figure()}" if saves % FIGURE_EVERY_SAVES == 0 else ""
                print(f"step {self.step}  {self.spent_s / 60:.1f} min  loss {self.mean_loss:.4f}{figure}", flush=True)
        self.save()
        print(self.figure(), flush=True)

    def export(self, folder: Path) -> None:
        """Write the average in half precision. Afterwards, the training cannot go on."""
        self.average.half().save_pretrained(folder, safe_serialization=True)


def train(
    description: str | None, batch: int, training_of: Callable[[argparse.Namespace], Trainer], size: int = 0
) -> None:
    """Run a training from the command line.

    batch, size: the defaults, size in pixels; training_of: the training of the options.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--weights", type=Path, required=True, help="folder to write the network to")
    parser.add_argument("--from", dest="start", type=Path, help="weights to start from, without a checkpoint")
    parser.add_argument("--minutes", type=float, required=True, help="stop after this time")
    parser.add_argument("--batch", type=int, default=batch, help="pictures in one step")
    parser.add_argument("--size", type=int, default=size, help="width and height of the pictures, in pixels")
    parser.add_argument("--bfloat16", action="store_true", help="half precision, for processors that have it")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    training = training_of(options)
    training.bfloat16 = options.bfloat16
    training.run()
    training.export(options.weights)
