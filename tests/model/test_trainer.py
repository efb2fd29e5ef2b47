"""The loop that trains the atelier's small networks."""

from pathlib import Path

import torch
from torch import Tensor, nn

from atelier.trainer import Trainer


class Toy(Trainer):
    """Learns to answer 0."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Linear(4, 1), nn.Linear(4, 1), folder / "toy.pt", minutes=1, rate=1e-2)

    def loss(self) -> Tensor:
        numbers = torch.randn(8, 4, generator=torch.Generator().manual_seed(self.step))
        loss: Tensor = self.network(numbers).square().mean()
        return loss

    def figure(self) -> str:
        return ""


def test_a_training_continues_as_if_it_had_never_stopped(tmp_path):
    """Trainings take hours, and a machine may stop at any moment."""
    (tmp_path / "whole").mkdir()
    whole, stopped = Toy(tmp_path / "whole"), Toy(tmp_path)
    for _ in range(6):
        whole.advance()
    for _ in range(3):
        stopped.advance()
    stopped.save()
    continued = Toy(tmp_path)
    for _ in range(3):
        continued.advance()
    assert continued.step == whole.step
    assert continued.mean_loss == whole.mean_loss
    assert torch.equal(continued.network.weight, whole.network.weight)
    assert torch.equal(continued.average.weight, whole.average.weight)
    assert not torch.equal(continued.average.weight, continued.network.weight)
