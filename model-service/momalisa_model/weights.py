"""Loads weights from the hub or a folder onto a device, and reports their properties. Renders nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import structlog
import torch
import transformers
from diffusers import StableDiffusionPipeline

from momalisa_model.batch_invariance import largest_power_of_two, make_batch_invariant
from momalisa_model.model_files import ModelFiles, find_files
from momalisa_model.networks import load_network
from momalisa_model.problems import UnsuitableModel
from momalisa_model.safety_checker import SafetyChecker, load_safety_checker
from momalisa_model.schedulers import load_scheduler
from momalisa_model.settings import Settings

# A config.json may set any of these to null.
READ_FIELDS = {
    "unet": ("in_channels", "block_out_channels"),
    "vae": ("latent_channels", "scaling_factor", "block_out_channels"),
    "text_encoder": ("max_position_embeddings", "hidden_size"),
}


@dataclass(frozen=True)
class Weights:
    """A loaded pipeline on its device, with its name and revision, and the variant of each network's weights."""

    pipeline: Any  # StableDiffusionPipeline, which declares its parts at run time only
    model: str
    revision: str
    folder: Path
    variants: Mapping[str, str | None]
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
    have another revision than MODEL_REVISION, if they are incomplete, or if they are not Stable Diffusion 1.x, 2.x or
    Turbo.
    """
    torch.set_num_threads(settings.threads or largest_power_of_two(torch.get_num_threads()))
    structlog.get_logger().info("loading", model_id=settings.model_id, revision=settings.model_revision)
    device, dtype = choose_device(settings.device), settings.dtype
    number = (torch.float16 if device.type == "cuda" else torch.float32) if dtype == "auto" else getattr(torch, dtype)
    files = find_files(settings.model_id, settings.model_revision, number)
    torch.backends.cudnn.deterministic = True
    pipeline = _load_pipeline(files, number)
    if device.type == "cpu":
        make_batch_invariant(pipeline.unet, pipeline.vae)
    checker = None
    if "safety_checker" in files.variants:
        checker = load_safety_checker(files.folder, files.model, files.variants["safety_checker"], device)
    named = (files.model, files.revision, files.folder, files.variants)
    return Weights(pipeline.to(device), *named, device, number, checker)


def _load_pipeline(files: ModelFiles, dtype: torch.dtype) -> Any:
    """The parts in a pipeline, whose constructor corrects outdated configurations."""
    folder, model = files.folder, files.model
    kinds = {part: files.index[part][1] for part in ("unet", "vae", "text_encoder", "tokenizer")}
    libraries = {"unet": diffusers, "vae": diffusers, "text_encoder": transformers}
    parts = {
        part: load_network(getattr(library, kinds[part]), folder / part, model, dtype, files.variants[part])
        for part, library in libraries.items()
    }
    try:
        tokenizer = getattr(transformers, kinds["tokenizer"]).from_pretrained(
            folder / "tokenizer", local_files_only=True
        )
    except Exception as error:  # a broken file makes the library raise errors of any type
        raise UnsuitableModel(
            f"The tokenizer of {model} could not be loaded; the replica's log has the details."
        ) from error
    parts |= {"tokenizer": tokenizer, "scheduler": load_scheduler(folder, files.index.get("scheduler"), model)}
    try:
        pipeline = StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    except Exception as error:  # it reads fields of the configurations, which may be null
        raise UnsuitableModel(
            f"The parts of {model} could not be put together: a field in one of their configurations may be wrong or "
            "missing. The replica's log has the details."
        ) from error
    _check_configurations(pipeline, model)
    _check_tokenizer(pipeline, model)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def choose_device(wanted: str) -> torch.device:
    """The torch device for a setting; auto: cuda, else mps, else cpu. Raises UnsuitableModel if it is not available."""
    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if wanted == "auto":
        return torch.device(next(kind for kind, count in counts.items() if count))
    device = torch.device(wanted)
    if not counts[device.type]:
        raise UnsuitableModel(f"This machine has no {device.type} device. Set MOMALISA_DEVICE=auto.")
    if (device.index or 0) >= counts[device.type]:
        last = counts[device.type] - 1
        raise UnsuitableModel(f"This machine has no device {wanted}; its last one is {device.type}:{last}.")
    return device


def _check_configurations(pipeline: Any, model: str) -> None:
    """Refuse parts that do not fit each other, or whose configuration lacks what this service reads."""
    for part, fields in READ_FIELDS.items():
        for field in fields:
            if getattr(getattr(pipeline, part).config, field, None) is None:
                raise UnsuitableModel(
                    f"The config.json of the {part} of {model} has no {field}. Complete the model's files."
                )
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


def _check_tokenizer(pipeline: Any, model: str) -> None:
    """Refuse a tokenizer whose tokens are not those of the text encoder."""
    tokens, known = pipeline.tokenizer.get_vocab(), pipeline.text_encoder.config.vocab_size
    if not isinstance(pipeline.tokenizer.model_max_length, int | float):
        raise UnsuitableModel(
            f"The model_max_length in the tokenizer_config.json of {model} is not a number. Complete the model's files."
        )
    # Without its files, the library makes a tokenizer for which all words are the same unknown one.
    if tokens.keys() <= set(pipeline.tokenizer.all_special_tokens):
        raise UnsuitableModel(
            f"The tokenizer of {model} knows no words: it lacks tokenizer.json, or vocab.json and merges.txt. Complete "
            "the model's files."
        )
    if max(tokens.values()) >= known:
        raise UnsuitableModel(
            f"The tokenizer of {model} has {max(tokens.values()) + 1} tokens, but its text encoder knows {known}. Use "
            "parts of one model."
        )
