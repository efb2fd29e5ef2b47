"""Loads weights from the hub or a folder onto a device, and reports their properties. Renders nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch
from diffusers import StableDiffusionPipeline

from momalisa_model.batch_invariance import largest_power_of_two, make_batch_invariant
from momalisa_model.problems import UnsuitableModel
from momalisa_model.safety_checker import SAFETY_CHECKER_PARTS, SafetyChecker, has_safety_checker, load_safety_checker
from momalisa_model.settings import Settings

PARTS = {
    "unet": ("diffusers", ["UNet2DConditionModel"]),
    "vae": ("diffusers", ["AutoencoderKL", "AutoencoderTiny"]),
    "text_encoder": ("transformers", ["CLIPTextModel"]),
    "tokenizer": ("transformers", ["CLIPTokenizer", "CLIPTokenizerFast"]),
}


@dataclass(frozen=True)
class Weights:
    """A loaded pipeline on its device, with its name and revision."""

    pipeline: Any  # StableDiffusionPipeline, which declares its parts at run time only
    model: str
    revision: str
    folder: Path
    device: torch.device
    dtype: torch.dtype
    safety_checker: SafetyChecker | None = None

    @property
    def token_limit(self) -> int:
        """Tokens that the text encoder reads, begin and end tokens included."""
        positions = self.pipeline.text_encoder.config.max_position_embeddings
        return int(min(self.pipeline.tokenizer.model_max_length, positions))

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return int(self.pipeline.unet.config.in_channels)

    @property
    def train_timesteps(self) -> int:
        """The largest possible number of denoising steps."""
        return int(self.pipeline.scheduler.config.num_train_timesteps)

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent, horizontally and vertically."""
        return int(self.pipeline.vae_scale_factor)


def load(settings: Settings) -> Weights:
    """Find, check and load the weights: safetensors only, no code from the model's folder.

    Downloads a model of the hub unless the hub's cache has it. Raises UnsuitableModel if there are no weights, if they
    have another revision than MODEL_REVISION, or if they are not Stable Diffusion 1.x, 2.x or Turbo.
    """
    torch.set_num_threads(settings.threads or largest_power_of_two(torch.get_num_threads()))
    structlog.get_logger().info("loading", model_id=settings.model_id, revision=settings.model_revision)
    folder, model, revision = locate(settings.model_id, settings.model_revision)
    checked = _check_parts(folder, model)
    device, dtype = choose_device(settings.device), settings.dtype
    number = (torch.float16 if device.type == "cuda" else torch.float32) if dtype == "auto" else getattr(torch, dtype)
    torch.backends.cudnn.deterministic = True
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            folder,
            dtype=number,
            use_safetensors=True,
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    except Exception as error:  # a broken file makes the library raise errors of any type
        raise UnsuitableModel(
            f"{model} could not be loaded from safetensors; the replica's log has the details."
        ) from error
    _check_shapes(pipeline, model)
    if device.type == "cpu":
        make_batch_invariant(pipeline.unet, pipeline.vae)
    pipeline.set_progress_bar_config(disable=True)
    checker = load_safety_checker(folder, model, device) if checked else None
    return Weights(pipeline.to(device), model, revision, folder, device, number, checker)


def locate(model_id: str, wanted: str | None) -> tuple[Path, str, str]:
    """(folder, model, revision) of a hub id or a folder.

    wanted: a branch, tag or commit of the hub, or a folder's SHA-256; None accepts any. The revision of a folder is its
    SHA-256, and that of a hub model is the commit. Raises UnsuitableModel. Its message contains no path, because it is
    sent over HTTP.
    """
    folder = Path(model_id)
    if folder.is_dir():
        revision, model = folder_revision(folder), folder_name(folder)
        if wanted not in (None, revision):
            raise UnsuitableModel(
                f"{model} has the SHA-256 {revision}, but MODEL_REVISION is {wanted}. Change one of the two."
            )
        return folder, model, revision
    if folder.is_absolute() or model_id.count("/") != 1:
        raise UnsuitableModel("The folder in MODEL_ID does not exist. Set a folder in diffusers format or a hub id.")
    try:
        snapshot = StableDiffusionPipeline.download(model_id, revision=wanted, use_safetensors=True)
    except (OSError, ValueError) as error:
        detail = f"{model_id} at {wanted or 'main'} could not be downloaded; the replica's log has the details."
        raise UnsuitableModel(detail) from error
    # The name of a snapshot's folder in the hub's cache is its commit.
    return Path(snapshot), model_id, Path(snapshot).name


def folder_name(folder: Path) -> str:
    """The model's name if no card has one: the last part of the folder's path that is not "weights"."""
    return next((part for part in reversed(folder.resolve().parts[1:]) if part != "weights"), "model")


def folder_revision(folder: Path) -> str:
    """SHA-256 (64 hexadecimal digits) of the files that decide pixels in a folder in diffusers format.

    These are model_index.json, and every *.safetensors, *.json and *.txt in the subfolders; a model card or README
    does not count. In the order of their relative POSIX paths, each file adds its path, NUL, and the SHA-256 of its
    bytes.
    """
    inner = (path for kind in ("safetensors", "json", "txt") for path in folder.glob(f"*/**/*.{kind}"))
    named = sorted((path.relative_to(folder).as_posix(), path) for path in (folder / "model_index.json", *inner))
    whole = hashlib.sha256()
    for name, path in named:
        if path.is_file() and not name.startswith("."):
            with path.open("rb") as file:
                whole.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def choose_device(wanted: str) -> torch.device:
    """The torch device for a setting; auto: cuda, else mps, else cpu. Raises UnsuitableModel if it is not available."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(kind for kind, present in available.items() if present))
    if not available[wanted]:
        raise UnsuitableModel(f"This machine has no {wanted} device. Set MOMALISA_DEVICE=auto.")
    return torch.device(wanted)


def _check_parts(folder: Path, model: str) -> bool:
    """Refuse what is not Stable Diffusion by its index, before gigabytes are read.

    Returns whether the model has a safety checker.
    """
    try:
        index = dict(json.loads((folder / "model_index.json").read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UnsuitableModel(f"{model} has no readable model_index.json. Use a model in diffusers format.") from error
    kind = index.get("_class_name")
    if kind != "StableDiffusionPipeline":
        raise UnsuitableModel(f"{model} is a {kind}. Only Stable Diffusion 1.x, 2.x and Turbo are supported.")
    checked = has_safety_checker(index)
    for part, (library, kinds) in (PARTS | SAFETY_CHECKER_PARTS if checked else PARTS).items():
        if index.get(part) not in [[library, kind] for kind in kinds]:
            wanted = f"{' or '.join(kinds)} of {library}"
            raise UnsuitableModel(f"The {part} of {model} is {json.dumps(index.get(part))}. It must be {wanted}.")
    return checked


def _check_shapes(pipeline: Any, model: str) -> None:
    unet, vae = pipeline.unet.config, pipeline.vae.config
    if unet.in_channels != vae.latent_channels:
        channels = f"{unet.in_channels} channels, but its latents have {vae.latent_channels}"
        raise UnsuitableModel(f"The UNet of {model} takes {channels}. Models for inpainting are not supported.")
    width = pipeline.text_encoder.config.hidden_size
    if unet.encoder_hid_dim is None and unet.cross_attention_dim != width:
        widths = f"{unet.cross_attention_dim} wide, but its text encoder returns {width}"
        raise UnsuitableModel(f"The UNet of {model} takes embeddings {widths}. Use parts of one model.")
    if unet.addition_embed_type not in (None, "text"):
        raise UnsuitableModel(f"{model} needs pooled embeddings ({unet.addition_embed_type}), which are not supported.")
