"""The state of a training, and one step of it. train.py decides when to save and when to stop."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from torch import Tensor, nn

from atelier import checkpoint, training_batches
from atelier.export import assemble, load_weights, write_weights
from atelier.latents import fit_pca
from atelier.network import build_networks, build_noise_schedule
from atelier.sheet import SHEET_COLUMNS, lay_out, sample_images, save_sheet, sheet_captions
from atelier.tokenizer import load_or_build_tokenizer

AVERAGE: Final = 0.997
RATE: Final = 1e-3
WARMUP_STEPS: Final = 200
CROPS: Final = 8
CROP_CELLS: Final = 8
ENCODER_EVERY: Final = 8


@dataclass(frozen=True)
class Plan:
    """The options of a training. It ends at the first of its limits, minutes or samples.

    batch: pictures in one step. variations: layouts of each kind. painters: processes that paint in advance; 0 paints
    in this one. start: weights to start from if there is no checkpoint.
    """

    out: Path
    weights: tuple[Path, ...]
    minutes: float
    samples: float
    batch: int
    seed: int
    variations: int
    painters: int = 0
    start: Path | None = None
    checkpoint_minutes: float = 2
    show_minutes: float = 6
    export_minutes: float = 12


class Training:
    """One training. A step's number alone decides its batch, so a checkpoint needs no random state."""

    def __init__(self, plan: Plan) -> None:
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = load_or_build_tokenizer(plan.out / "tokenizer", plan.seed)
        self.networks = build_networks(self.tokenizer).to(self.device)
        for network in self.networks.values():
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = build_networks(self.tokenizer).to(self.device)
        self.average.load_state_dict(self.networks.state_dict())
        self.average.requires_grad_(False)
        self.optimiser = torch.optim.AdamW(self.networks.parameters(), RATE, betas=(0.9, 0.99), weight_decay=0.01)
        self.alphas_cumprod: Tensor = build_noise_schedule().alphas_cumprod
        self.tally = checkpoint.Tally()
        self.path = plan.out / "checkpoint.pt"
        self.pca = fit_pca(plan.seed).to(self.device)
        if self.path.exists():
            self._restore()
        elif plan.start:
            self._start_from(plan.start)
        self.batches = iter(
            training_batches.prefetched_batches(self.tokenizer, self._batch_settings, self.tally.step, plan.painters)
        )

    def _restore(self) -> None:
        state = checkpoint.load(self.path)
        self.networks.load_state_dict(state["networks"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.pca = checkpoint.pca_of(state).to(self.device)
        self.tally = checkpoint.tally_of(state)

    def _start_from(self, folder: Path) -> None:
        """Start from exported weights: the latents are the same, because the seed decides the PCA."""
        pipeline = load_weights(folder)
        for networks in (self.networks, self.average):
            for name, network in networks.items():
                network.load_state_dict(getattr(pipeline, name).state_dict())

    @property
    def _batch_settings(self) -> training_batches.BatchSettings:
        return training_batches.BatchSettings(self.plan.seed, self.plan.batch, self.plan.variations)

    def save(self) -> None:
        """Write the checkpoint."""
        networks: dict[str, nn.Module] = {"networks": self.networks, "average": self.average}
        checkpoint.save(self.path, networks, self.optimiser, self.pca, self.tally)

    @property
    def progress(self) -> float:
        """From 0 at the start to 1 at the end of the plan."""
        return max(self.tally.spent_s / 60 / self.plan.minutes, self.tally.samples / self.plan.samples)

    def rate(self) -> float:
        """The learning rate: rises during warm-up, and falls during the last half."""
        fall = min(1.0, max(0.0, 2 * self.progress - 1))
        rise = min(1.0, (self.tally.step + 1) / WARMUP_STEPS)
        return RATE * rise * (0.01 + 0.99 * (1 + math.cos(math.pi * fall)) / 2)

    def advance(self) -> None:
        """Train all three networks for one step."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        loss = self._loss()
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        for network in self.networks.values():
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        self.optimiser.step()
        self.tally.step += 1
        self.tally.samples += self.plan.batch
        self._follow()

    def _loss(self) -> Tensor:
        dice, batch = next(self.batches)
        generator, batch = torch.Generator().manual_seed(dice), batch.to(self.device)
        latents = self.pca.encode(batch.pictures)
        vae: AutoencoderTiny = self.networks["vae"]
        unet, text_encoder = self.networks["unet"], self.networks["text_encoder"]
        velocity = training_batches.velocity_loss(unet, text_encoder, batch, latents, self.alphas_cumprod, generator)
        noisy, pixels = training_batches.noisy_crops(batch.pictures[:CROPS], latents[:CROPS], CROP_CELLS, generator)
        picture, error = training_batches.picture_loss(vae, noisy, pixels)
        self.tally.loss += 0.01 * (velocity.item() - self.tally.loss)
        self.tally.error += 0.01 * (error.item() - self.tally.error)
        total = velocity + picture
        if self.tally.step % ENCODER_EVERY == 0:
            total = total + nn.functional.mse_loss(vae.encode(batch.pictures[:4]).latents, latents[:4])
        return total

    def _follow(self) -> None:
        keep = min(AVERAGE, (1 + self.tally.step) / (10 + self.tally.step))
        newest = [weight.detach() for weight in self.networks.parameters()]
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), newest, 1 - keep)

    def show(self) -> None:
        """Write a contact sheet of held-out captions."""
        pipeline: StableDiffusionPipeline = assemble(self.average, self.tokenizer).to(torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        images = sample_images(pipeline, [caption.text for caption in sheet_captions()])
        save_sheet(lay_out(images, SHEET_COLUMNS), self.plan.out / f"sheet-{self.tally.samples:08d}.png")

    def export(self) -> None:
        """Write the pipeline to every folder of the plan."""
        for folder in self.plan.weights:
            write_weights(self.average, self.tokenizer, self.tally, folder)

    def report(self) -> None:
        """Print the progress line."""
        tally = self.tally
        left = max(0.0, 1 - self.progress) * tally.spent_s / 60 / max(self.progress, 1e-9)
        print(
            f"{tally.samples:8d} samples  {tally.samples / max(tally.spent_s, 1):6.1f}/s  loss {tally.loss:.4f}"
            f"  decoder {-10 * math.log10(tally.error):.2f} dB  rate {self.rate():.1e}  {left:5.1f} min left",
            flush=True,
        )
