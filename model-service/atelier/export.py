"""Writes the atelier's networks as a StableDiffusionPipeline folder of diffusers: half precision, safetensors only.

`python -m atelier.export --out DIR --weights DIR` exports the checkpoint of a training.
"""

import argparse
import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Final

import torch
from diffusers import StableDiffusionPipeline
from torch import nn
from transformers import CLIPTokenizer

from atelier import checkpoint
from atelier.checkpoint import Tally
from atelier.network import build_networks, build_sampler
from atelier.readme import TRAINING, write_readme
from atelier.tokenizer import load_or_build_tokenizer

LARGEST_FILE: Final = "10MB"


def assemble(networks: nn.ModuleDict, tokenizer: CLIPTokenizer) -> StableDiffusionPipeline:
    """A pipeline of copies of the networks, in half precision on the CPU."""
    halves = {name: deepcopy(network).cpu().half().eval() for name, network in networks.items()}
    return StableDiffusionPipeline(
        **halves,
        tokenizer=tokenizer,
        scheduler=build_sampler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def write_weights(networks: nn.ModuleDict, tokenizer: CLIPTokenizer, tally: Tally, folder: Path) -> None:
    """Replace the folder by the new pipeline in one step, so that readers never find a part of it."""
    fresh, stale = folder.with_name(folder.name + ".fresh"), folder.with_name(folder.name + ".stale")
    for leftover in (fresh, stale):
        shutil.rmtree(leftover, ignore_errors=True)
    # Training pads to a fixed length. If the tokenizer saved this, long prompts would be truncated without a warning.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    assemble(networks, tokenizer).save_pretrained(fresh, safe_serialization=True, max_shard_size=LARGEST_FILE)
    (fresh / TRAINING).write_text(json.dumps(vars(tally), indent=2) + "\n")
    write_readme(fresh)
    for path in fresh.rglob("*"):
        # save_pretrained writes files that only their owner can read; containers run as another user.
        path.chmod(0o755 if path.is_dir() else 0o644)
    if folder.exists():
        folder.rename(stale)
    fresh.rename(folder)
    shutil.rmtree(stale, ignore_errors=True)


def load_weights(folder: Path) -> StableDiffusionPipeline:
    """The pipeline in a folder, loaded in float32 like any other of diffusers."""
    pipeline: StableDiffusionPipeline = StableDiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the training")
    parser.add_argument("--weights", type=Path, required=True, help="folder to write the pipeline to")
    options = parser.parse_args()
    tokenizer = load_or_build_tokenizer(options.out / "tokenizer", 0)
    networks = build_networks(tokenizer)
    state = checkpoint.load(options.out / "checkpoint.pt")
    networks.load_state_dict(state["average"])
    write_weights(networks, tokenizer, checkpoint.tally_of(state), options.weights)


if __name__ == "__main__":
    _main()
