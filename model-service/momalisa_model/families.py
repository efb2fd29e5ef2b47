"""The families of models that are supported: a table, one line for each pipeline class of diffusers.

A line says only what the stock pipeline does not tell: what its `encode_prompt` returns, how it is guided, and good
defaults. Everything else is the stock pipeline's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from momalisa_model.problems import UnsuitableModel

EMBEDS, NEGATIVE = "prompt_embeds", "negative_prompt_embeds"
POOLED, NEGATIVE_POOLED = "pooled_prompt_embeds", "negative_pooled_prompt_embeds"
MASK, NEGATIVE_MASK = "prompt_attention_mask", "negative_prompt_attention_mask"
MASK_OF_EMBEDS = "prompt_embeds_mask"
# The schedulers, by name, that work with any model that predicts noise.
NOISE = ("DDIM", "DPMSolverMultistep", "UniPC", "Euler", "Heun")
NO_BINNING: Mapping[str, Any] = {"use_resolution_binning": False}
# Names that classes had in earlier versions of diffusers.
FORMER_NAMES: Mapping[str, str] = {"Lumina2Text2ImgPipeline": "Lumina2Pipeline"}
# Words in the name of a model that was distilled for few steps.
FEW_STEP_WORDS = ("turbo", "lightning", "schnell", "hyper-", "lcm")


@dataclass(frozen=True)
class Family:
    """What is known about one pipeline class.

    returns: the argument of `__call__` for each thing that `encode_prompt` returns; None for one that is not passed on.
    halves: whether one call of encode_prompt also encodes the negative prompt; otherwise it is called once for each.
    guided_above: classifier-free guidance is used with a larger guidance scale; None: never.
    scale: the argument of `__call__` for the guidance scale. embeds_scale: whether the network reads it as a number.
    lists: whether embeddings are a list with one tensor for each frame.
    shifts: whether the shift_factor of the VAE, if it has one, is used.
    patch: latents per token of the network, horizontally and vertically.
    multiple: sizes that the stock pipeline accepts are multiples of this, whatever its networks need, in pixels.
    tokens: the stock pipeline's longest prompt, where the tokenizer does not say it.
    prefix: what the stock pipeline puts before a prompt, as far as it counts as tokens: see `prefix_of`.
    fill: whether embeddings are as long as their prompt, so that both prompts of a leg are filled to one length.
    steps, guidance: defaults. few_steps: the two for models that were distilled for few steps.
    schedulers: what a card offers beside the model's own scheduler, and what replaces one that cannot be used.
    half: the half precision that the family is known to work in.
    """

    name: str
    returns: tuple[str | None, ...]
    halves: bool = True
    guided_above: float | None = 1.0
    scale: str = "guidance_scale"
    embeds_scale: bool = False
    lists: bool = False
    denoiser: Literal["unet", "transformer"] = "transformer"
    shifts: bool = True
    patch: int = 2
    multiple: int = 8
    tokens: int | None = None
    prefix: Literal["", "chat", "system prompt"] = ""
    fill: bool = False
    steps: int = 25
    guidance: float = 5.0
    few_steps: tuple[int, float] = (4, 0.0)
    schedulers: tuple[str, ...] = ("FlowMatchEuler",)
    half: torch.dtype = torch.bfloat16
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def blends(self) -> bool:
        """Whether the early blend and guidance in an interval are possible: one pass has both halves of the guidance."""
        return self.denoiser == "unet" and self.guided_above is not None

    @property
    def chunks(self) -> bool:
        """Whether a prompt can be encoded in several chunks: text encoders are CLIPs, and there is no mask."""
        return self.denoiser == "unet"


_UNET: Mapping[str, Any] = {"denoiser": "unet", "shifts": False, "half": torch.float16}
_MASKED = (EMBEDS, MASK, NEGATIVE, NEGATIVE_MASK)

# fmt: off
FAMILIES: Mapping[str, Family] = {
    "StableDiffusionPipeline": Family("Stable Diffusion 1.x, 2.x, Turbo", (EMBEDS, NEGATIVE), guidance=7.5, few_steps=(2, 0.0), schedulers=NOISE, **_UNET),
    "LatentConsistencyModelPipeline": Family("LCM", (EMBEDS, None), guided_above=None, embeds_scale=True, steps=4, guidance=8.5, few_steps=(4, 8.5), schedulers=("LCM",), **_UNET),
    "StableDiffusionXLPipeline": Family("SDXL", (EMBEDS, NEGATIVE, POOLED, NEGATIVE_POOLED), guidance=5.0, schedulers=NOISE, **_UNET),
    "StableDiffusion3Pipeline": Family("Stable Diffusion 3, 3.5", (EMBEDS, NEGATIVE, POOLED, NEGATIVE_POOLED), tokens=256, steps=28, guidance=4.5),
    "FluxPipeline": Family("FLUX.1", (EMBEDS, POOLED, None), halves=False, guided_above=None, embeds_scale=True, tokens=512, steps=28, guidance=3.5),
    "Flux2KleinPipeline": Family("FLUX.2-klein", (EMBEDS, None), halves=False, tokens=512, prefix="chat", steps=50, guidance=4.0),
    "ZImagePipeline": Family("Z-Image", (EMBEDS, NEGATIVE), lists=True, guided_above=0.0, tokens=512, prefix="chat", fill=True, steps=50, guidance=4.0, few_steps=(8, 0.0)),
    "QwenImagePipeline": Family("Qwen-Image", (EMBEDS, MASK_OF_EMBEDS), halves=False, scale="true_cfg_scale", tokens=512, fill=True, steps=50, guidance=4.0, few_steps=(8, 0.0)),
    "Krea2Pipeline": Family("Krea 2", (EMBEDS, MASK_OF_EMBEDS), halves=False, guided_above=0.0, tokens=507, fill=True, steps=28, guidance=4.5, few_steps=(8, 0.0)),
    "ChromaPipeline": Family("Chroma", (EMBEDS, None, MASK, NEGATIVE, None, NEGATIVE_MASK), tokens=512, fill=True, steps=35),
    "PixArtSigmaPipeline": Family("PixArt-Sigma", _MASKED, tokens=300, fill=True, steps=20, guidance=4.5, schedulers=NOISE, shifts=False, half=torch.float16, settings=NO_BINNING),
    "Lumina2Pipeline": Family("Lumina 2", _MASKED, tokens=256, prefix="system prompt", fill=True, steps=30, guidance=4.0),
    "SanaPipeline": Family("Sana", _MASKED, patch=1, multiple=32, tokens=299, fill=True, steps=20, guidance=4.5, schedulers=(), settings=NO_BINNING),
    "SanaSprintPipeline": Family("Sana-Sprint", (EMBEDS, MASK), halves=False, guided_above=None, embeds_scale=True, patch=1, multiple=32, tokens=299, fill=True, steps=2, guidance=4.5, few_steps=(2, 4.5), schedulers=("SCM",), settings=NO_BINNING),
}
# fmt: on


def class_of_family(kind: object, model: str) -> str:
    """The name of a pipeline class as a key of FAMILIES. Raises UnsuitableModel if it is not in the table."""
    name = FORMER_NAMES.get(str(kind), str(kind))
    if name in FAMILIES:
        return name
    known = ", ".join(family.name for family in FAMILIES.values())
    raise UnsuitableModel(
        f"{model} is a {kind}, which is not supported. Use a model of one of these families: {known}."
    )


def denoiser_of(pipeline: Any) -> Any:
    """The network of a loaded pipeline that predicts the noise in each step."""
    return getattr(pipeline, FAMILIES[type(pipeline).__name__].denoiser)


def is_guided(pipeline: Any, guidance_scale: float) -> bool:
    """Whether the stock pipeline uses classifier-free guidance, which needs a negative prompt and a second pass.

    Models that were distilled with guidance need none: they have a guidance embedding, or say so in their index.
    """
    family = FAMILIES[type(pipeline).__name__]
    if family.guided_above is None or guidance_scale <= family.guided_above:
        return False
    return not (reads_scale(pipeline) or pipeline.config.get("is_distilled"))


def reads_scale(pipeline: Any) -> bool:
    """Whether the network itself reads the guidance scale, as a guidance embedding."""
    embedding = denoiser_of(pipeline).config.get("time_cond_proj_dim")
    return FAMILIES[type(pipeline).__name__].embeds_scale or embedding is not None


def prefix_of(pipeline: Any) -> str:
    """What the stock pipeline puts before each prompt, as far as it counts against the family's `tokens`."""
    kind = FAMILIES[type(pipeline).__name__].prefix
    if kind == "system prompt":
        return f"{pipeline.system_prompt} <Prompt Start> "
    if kind == "chat":
        message = [{"role": "user", "content": "PROMPT"}]
        text = pipeline.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        return str(text).partition("PROMPT")[0]
    return ""


def usual_settings(pipeline: Any, model: str) -> tuple[int, float, str]:
    """Steps and guidance that are usual for a loaded model, and the word in its name if one decided."""
    family = FAMILIES[type(pipeline).__name__]
    word = next((word for word in FEW_STEP_WORDS if word in model.lower()), "")
    # FLUX.1-schnell is FLUX.1 without a guidance embedding.
    schnell = family.embeds_scale and denoiser_of(pipeline).config.get("guidance_embeds") is False
    if word or schnell or pipeline.config.get("is_distilled"):
        return *family.few_steps, word
    return family.steps, family.guidance, ""
