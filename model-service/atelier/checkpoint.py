"""The state of a training on disk, complete at any moment, so that a killed training can continue."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from atelier.latents import PatchPca


@dataclass
class Tally:
    """The progress of a training. loss, error: running means of the velocity loss and the decoder's squared error."""

    step: int = 0
    samples: int = 0
    spent_s: float = 0.0
    loss: float = 1.0
    error: float = 0.1


def save(
    path: Path, networks: dict[str, nn.Module], optimiser: torch.optim.Optimizer, pca: PatchPca, tally: Tally
) -> None:
    """Write the state to a temporary file, then replace the old one."""
    state: dict[str, Any] = {name: network.state_dict() for name, network in networks.items()}
    state |= {"optimiser": optimiser.state_dict(), "pca_mean": pca.mean, "pca_basis": pca.basis, **vars(tally)}
    fresh = path.with_suffix(".fresh")
    torch.save(state, fresh)
    fresh.replace(path)


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote, onto the CPU."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def tally_of(state: dict[str, Any]) -> Tally:
    """The progress in a state."""
    return Tally(**{name: state[name] for name in vars(Tally())})


def pca_of(state: dict[str, Any]) -> PatchPca:
    """The encoder in a state."""
    return PatchPca(state["pca_mean"], state["pca_basis"])
