"""From a hub id or a folder to weights on a device, and what can be read from them. Paints nothing."""

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
    """A loaded pipeline on its device, and the names it goes by."""

    pipeline: Any  # StableDiffusionPipeline, which names its parts at run time only
    model: str
    revision: str
    folder: Path
    device: torch.device
    dtype: torch.dtype
    safety_checker: SafetyChecker | None = None

    @property
    def token_limit(self) -> int:
        """Tokens a prompt may have, begin and end included."""
        known = self.pipeline.text_encoder.config.max_position_embeddings
        return int(min(self.pipeline.tokenizer.model_max_length, known))

    @property
    def latent_channels(self) -> int:
        return int(self.pipeline.unet.config.in_channels)

    @property
    def train_timesteps(self) -> int:
        """Steps that a run can have at most."""
        return int(self.pipeline.scheduler.config.num_train_timesteps)

    @property
    def vae_scale_factor(self) -> int:
        """Pixels a side for one latent."""
        return int(self.pipeline.vae_scale_factor)


def load(settings: Settings) -> Weights:
    """Find, check, load and place the weights: safetensors only, no code from the model's folder.

    Raises UnsuitableModel where there are none, where they are not what was pinned, or not a Stable Diffusion 1.x,
    2.x or Turbo. A hub model is downloaded first unless the hub's cache has it.
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
    except Exception as error:  # what a broken file makes a library raise is anything
        raise UnsuitableModel(f"{model} could not be loaded from safetensors; the replica's log says why.") from error
    _check_shapes(pipeline, model)
    if device.type == "cpu":
        make_batch_invariant(pipeline.unet, pipeline.vae)
    pipeline.set_progress_bar_config(disable=True)
    checker = load_safety_checker(folder, model, device) if checked else None
    return Weights(pipeline.to(device), model, revision, folder, device, number, checker)


def locate(model_id: str, wanted: str | None) -> tuple[Path, str, str]:
    """(folder, model, revision) of a hub id or a folder.

    A folder's revision is its SHA-256; a hub model's is the commit that `wanted` (a branch, a tag) stands for today.
    Problems name no path: they are told over HTTP.
    """
    folder = Path(model_id)
    if folder.is_dir():
        revision, model = folder_revision(folder), folder_name(folder)
        if wanted not in (None, revision):
            raise UnsuitableModel(f"{model} has the SHA-256 {revision}, and {wanted} was asked for.")
        return folder, model, revision
    if folder.is_absolute() or model_id.count("/") != 1:
        raise UnsuitableModel("There is no folder where MODEL_ID says; set it to one in diffusers format or a hub id.")
    try:
        snapshot = StableDiffusionPipeline.download(model_id, revision=wanted, use_safetensors=True)
    except (OSError, ValueError) as error:
        told = f"{model_id} at {wanted or 'main'} could not be fetched from the hub; the replica's log says why."
        raise UnsuitableModel(told) from error
    # The hub's cache names each snapshot's folder after its commit.
    return Path(snapshot), model_id, Path(snapshot).name


def folder_name(folder: Path) -> str:
    """The last part of a folder's path that is not "weights": what it goes by where no card has a name for it."""
    return next((part for part in reversed(folder.resolve().parts[1:]) if part != "weights"), "model")


def folder_revision(folder: Path) -> str:
    """SHA-256 (64 hexadecimal digits) over what decides pixels in a folder in diffusers format.

    Taken are model_index.json, and of the folders beside it every *.safetensors, *.json and *.txt; so neither a card
    nor a README counts. In the order of their relative POSIX paths, each adds path, NUL, and the digest of its bytes.
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
    """auto: cuda, then mps, then cpu. Raises UnsuitableModel where the wanted one is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(kind for kind, present in there.items() if present))
    if not there[wanted]:
        raise UnsuitableModel(f"There is no {wanted} device here; set MOMALISA_DEVICE=auto.")
    return torch.device(wanted)


def _check_parts(folder: Path, model: str) -> bool:
    """Read the index before the gigabytes: what is no Stable Diffusion is refused in a sentence.

    Returns whether the model has a safety checker.
    """
    try:
        index = dict(json.loads((folder / "model_index.json").read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UnsuitableModel(f"{model} has no model_index.json to read: is it a model in diffusers format?") from error
    kind = index.get("_class_name")
    if kind != "StableDiffusionPipeline":
        raise UnsuitableModel(f"{model} is a {kind}; only Stable Diffusion 1.x, 2.x and Turbo can be walked yet.")
    checked = has_safety_checker(index)
    for part, (library, kinds) in (PARTS | SAFETY_CHECKER_PARTS if checked else PARTS).items():
        if index.get(part) not in [[library, kind] for kind in kinds]:
            wanted = f"{' or '.join(kinds)} of {library}"
            raise UnsuitableModel(f"{model} has {json.dumps(index.get(part))} as {part}; it must be {wanted}.")
    return checked


def _check_shapes(pipeline: Any, model: str) -> None:
    unet, vae = pipeline.unet.config, pipeline.vae.config
    if unet.in_channels != vae.latent_channels:
        channels = f"{unet.in_channels} channels where its latents have {vae.latent_channels}"
        raise UnsuitableModel(f"{model} takes {channels}; models for inpainting cannot be walked.")
    width = pipeline.text_encoder.config.hidden_size
    if unet.encoder_hid_dim is None and unet.cross_attention_dim != width:
        raise UnsuitableModel(f"{model} hears prompts {unet.cross_attention_dim} wide, and its encoder speaks {width}.")
    if unet.addition_embed_type not in (None, "text"):
        raise UnsuitableModel(f"{model} wants pooled embeddings ({unet.addition_embed_type}): not walked yet.")
