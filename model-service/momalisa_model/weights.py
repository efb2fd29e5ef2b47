"""Loads weights from the hub or a folder into memory, and reports their properties. Renders nothing."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import structlog
import torch
from safetensors.torch import load_file

from momalisa_model.adapter_files import find_adapters
from momalisa_model.adapters import fuse_and_learn
from momalisa_model.additions import NO_ADDITIONS, Additions
from momalisa_model.batch_invariance import largest_power_of_two, make_batch_invariant
from momalisa_model.families import FAMILIES, POOLED, Family, prefix_of
from momalisa_model.file_stamps import unchanged
from momalisa_model.hub import Report
from momalisa_model.model_files import OPTIONAL_PARTS, UNUSED_PARTS, ModelFiles, class_of, find_files
from momalisa_model.networks import load_network
from momalisa_model.problems import UnsuitableModel
from momalisa_model.safety_checker import SafetyChecker, load_safety_checker
from momalisa_model.schedulers import load_scheduler
from momalisa_model.settings import ModelSource
from momalisa_model.single_file import find_single_file, is_single_file
from momalisa_model.single_file_networks import load_inside
from momalisa_model.vae_files import find_vae, with_vae

# A config.json may set any of these to null.
READ_FIELDS = {
    "unet": ("in_channels", "block_out_channels"),
    "vae": ("latent_channels", "scaling_factor", "block_out_channels"),
    "text_encoder": ("max_position_embeddings", "hidden_size"),
}


@dataclass(frozen=True)
class Weights:
    """A loaded pipeline, the device for it, its name and revision, and the variant of each network's weights.

    additions: the other VAE and the adapters that are part of the pipeline and of the revision, if there are any.
    """

    pipeline: Any  # a stock pipeline of diffusers, which declares its parts at run time only
    model: str
    revision: str
    folder: Path
    variants: Mapping[str, str | None]
    device: torch.device
    dtype: torch.dtype
    safety_checker: SafetyChecker | None = None
    additions: Additions = NO_ADDITIONS

    @property
    def tokens(self) -> tuple[str, ...]:
        """The words that textual inversions have added to the vocabulary."""
        return tuple(one.token for one in self.additions.adapters if one.token)

    @property
    def family(self) -> Family:
        """What is known about the class of the pipeline."""
        return FAMILIES[type(self.pipeline).__name__]

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the text encoder that reads the longest prompts."""
        parts = (getattr(self.pipeline, name, None) for name in ("tokenizer_3", "tokenizer_2", "tokenizer"))
        return next(part for part in parts if part is not None)

    @property
    def token_limit(self) -> int:
        """Tokens of a prompt that the text encoder reads, begin and end tokens included."""
        if self.family.tokens is None or (
            hasattr(self.pipeline, "text_encoder_3") and not self.pipeline.text_encoder_3
        ):
            positions = self.pipeline.text_encoder.config.max_position_embeddings
            return int(min(self.pipeline.tokenizer.model_max_length, positions))
        return self.family.tokens - self.prefix_tokens

    @property
    def prefix_tokens(self) -> int:
        """Tokens that the stock pipeline puts before each prompt."""
        return len(self.tokenizer(prefix_of(self.pipeline), add_special_tokens=False).input_ids)

    @property
    def train_timesteps(self) -> int:
        """The largest possible number of denoising steps."""
        return int(self.pipeline.scheduler.config.num_train_timesteps)

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent, horizontally and vertically."""
        return int(self.pipeline.vae_scale_factor)

    @property
    def float32_latents(self) -> bool:
        """Whether latents need more precision than the networks: with some schedules of UNets, float16 overflows."""
        return self.dtype != torch.float32 and self.family.denoiser == "unet"


def load(source: ModelSource, report: Report = lambda _: None) -> Weights:
    """Find, check and load the weights: safetensors only, no code from the model's folder.

    Downloads a model of the hub unless the hub's cache has it; `report` gets sentences about the progress. Raises
    UnsuitableModel if there are no weights, if they have another revision than MODEL_REVISION, if they are incomplete,
    if their family is not in the table, or if an adapter or another VAE does not fit, and DownloadFailed if a further
    attempt may help, and FilesChanged if files on disk were written meanwhile.
    """
    source.require_fetched()
    with unchanged(source):
        return _load(source, report)


def _load(source: ModelSource, report: Report) -> Weights:
    torch.set_num_threads(source.threads or largest_power_of_two(torch.get_num_threads()))
    structlog.get_logger().info("loading", model_id=source.model_id, revision=source.model_revision)
    device = choose_device(source.device)
    vae, adapters = find_vae(source.model_vae, report), find_adapters(source.model_adapters, report)
    dtype_for = partial(dtype_of_family, source, device)
    if is_single_file(source.model_id):
        places = (source.model_id, source.model_configuration, source.model_revision)
        files = find_single_file(*places, dtype_for, report, vae)
    elif source.model_configuration:
        raise UnsuitableModel(
            "MODEL_CONFIG is for a model in a single file, and MODEL_ID is none. Leave MODEL_CONFIG out."
        )
    else:
        files = find_files(source.model_id, source.model_revision, dtype_for, report, vae)
    dtype = dtype_for(files.family)
    if vae:
        files = with_vae(files, vae, dtype, report)
    torch.backends.cudnn.deterministic = True
    pipeline = load_pipeline(files, dtype)
    _check_parts(pipeline, files)
    if adapters:
        fuse_and_learn(pipeline, adapters, files.model)
        _check_parts(pipeline, files)
    if device.type == "cpu":
        networks = (part for part in pipeline.components.values() if isinstance(part, torch.nn.Module))
        make_batch_invariant(*networks)
    checker = None
    if "safety_checker" in files.variants:
        checker = load_safety_checker(files.folder, files.model, files.variants["safety_checker"], device)
    added = Additions(files.revision, vae.origin if vae else None, tuple(one.card for one in adapters))
    # A card beside the configuration of a single file is that of another model.
    named = (files.model, added.revision, files.file or files.folder, files.variants)
    return Weights(pipeline, *named, device, dtype, checker, added)


def dtype_of_family(source: ModelSource, device: torch.device, family: Family) -> torch.dtype:
    """The precision of a family's networks on a device, unless the settings name one."""
    if source.dtype == "auto":
        return family.half if device.type == "cuda" else torch.float32
    return getattr(torch, source.dtype)  # type: ignore[no-any-return]


def load_pipeline(files: ModelFiles, dtype: torch.dtype) -> Any:
    """The parts in a pipeline, whose constructor corrects outdated configurations."""
    folder, model = files.folder, files.model
    own = files.index.get("scheduler")
    parts: dict[str, Any] = {"scheduler": load_scheduler(folder, own, model, files.family.schedulers)}
    checkpoint = load_file(files.file) if files.file else {}
    for part in _loaded(files):
        kind = class_of(*files.parts[part])
        needed = _dtype_of(part, files, dtype)
        if part in files.inside:
            parts[part] = load_inside(kind, checkpoint, files, part, needed)
        elif part in files.variants:
            parts[part] = load_network(kind, files.folder_of(part), files.named(part), needed, files.variants[part])
        else:
            parts[part] = _load_tokenizer(kind, folder / part, model)
    try:
        pipeline = getattr(diffusers, files.kind)(**parts, **_pipeline_settings(files))
    except Exception as error:  # it reads fields of the configurations, which may be null
        raise UnsuitableModel(
            f"The parts of {model} could not be put together: a field in one of their configurations may be wrong or "
            "missing. The replica's log has the details."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _check_parts(pipeline: Any, files: ModelFiles) -> None:
    """Refuse parts that do not fit each other, or lack what this service reads."""
    _check_configurations(pipeline, files.model)
    for part in _loaded(files):
        if part not in files.variants:
            _check_tokenizer(pipeline, part, files.model)


def _load_tokenizer(kind: Any, folder: Path, model: str) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a broken file makes the library raise errors of any type
        raise UnsuitableModel(
            f"The {folder.name} of {model} could not be loaded; the replica's log has the details."
        ) from error


def _dtype_of(part: str, files: ModelFiles, dtype: torch.dtype) -> torch.dtype:
    """The precision of one part. The VAE of SDXL overflows in float16 unless its configuration says otherwise."""
    if (files.family.name, part, dtype) != ("SDXL", "vae", torch.float16):
        return dtype
    config = (files.folder_of(part) / "config.json").read_text()
    return dtype if json.loads(config).get("force_upcast") is False else torch.float32


def _pipeline_settings(files: ModelFiles) -> dict[str, Any]:
    """The arguments of the pipeline's constructor that are not loaded: fields of the index, and parts that it lacks."""
    # The watermark of SDXL needs a package that is not installed, and is drawn over the picture.
    fixed: dict[str, Any] = {"requires_safety_checker": False, "add_watermarker": False}
    takes = inspect.signature(getattr(diffusers, files.kind).__init__).parameters
    names = [name for name in takes if name not in ("self", "scheduler") and name not in _loaded(files)]
    fields = {name: files.index[name] for name in names if name in files.index and name not in UNUSED_PARTS}
    lacking = {name: None for name in names if name in (*UNUSED_PARTS, *OPTIONAL_PARTS)}
    return fields | lacking | {name: value for name, value in fixed.items() if name in takes}


def _loaded(files: ModelFiles) -> list[str]:
    """The parts that the pipeline gets; the safety checker is apart."""
    return [part for part in files.parts if part not in UNUSED_PARTS]


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
    """Refuse parts of a UNet's pipeline that do not fit each other, or lack what this service reads.

    Other pipelines are tried at warm-up.
    """
    if not hasattr(pipeline, "unet"):
        return
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
    encoders = [getattr(pipeline, part, None) for part in ("text_encoder", "text_encoder_2")]
    width = sum(encoder.config.hidden_size for encoder in encoders if encoder)
    if unet.encoder_hid_dim is None and unet.cross_attention_dim != width:
        widths = f"{unet.cross_attention_dim} wide, but its text encoder returns {width}"
        raise UnsuitableModel(f"The UNet of {model} takes embeddings {widths}. Use parts of one model.")
    given = "text_time" if POOLED in FAMILIES[type(pipeline).__name__].returns else "text"
    if unet.addition_embed_type not in (None, given):
        raise UnsuitableModel(f"{model} needs pooled embeddings ({unet.addition_embed_type}), which are not supported.")


def _check_tokenizer(pipeline: Any, part: str, model: str) -> None:
    """Refuse a tokenizer whose tokens are not those of its text encoder."""
    tokenizer, encoder = getattr(pipeline, part), getattr(pipeline, part.replace("tokenizer", "text_encoder"))
    tokens, known = tokenizer.get_vocab(), encoder.get_input_embeddings().num_embeddings
    if not isinstance(tokenizer.model_max_length, int | float):
        raise UnsuitableModel(
            f"The model_max_length in the tokenizer_config.json of {model} is not a number. Complete the model's files."
        )
    # Without its files, the library makes a tokenizer for which all words are the same unknown one.
    if tokens.keys() <= set(tokenizer.all_special_tokens):
        raise UnsuitableModel(
            f"The {part} of {model} knows no words: it lacks tokenizer.json, or vocab.json and merges.txt. Complete "
            "the model's files."
        )
    if max(tokens.values()) >= known:
        raise UnsuitableModel(
            f"The {part} of {model} has {max(tokens.values()) + 1} tokens, but its text encoder knows {known}. Use "
            "parts of one model."
        )
