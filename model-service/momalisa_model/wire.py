"""The model's half of the contract: requests, responses and the model card. Plain data, no tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from momalisa_model.recipes import (
    GUIDANCE,
    GUIDANCE_INTERVAL,
    BetweenRecipe,
    ClipRecipe,
    Fraction,
    Guidance,
    GuidanceInterval,
    Pixels,
    Recipe,
    RestyleRecipe,
    Sha256,
    Steps,
    Wire,
)

# What a recipe may ask of a replica beyond the first release of this contract: see ModelAnswer.features.
EARLY_BLEND: Final = "early_blend"
PICTURES: Final = "pictures"
# The kinds of recipes beside `between`, each a feature of its own: see recipes.
OTHER_KINDS: Final = ("into", "restyle", "clip", "apart")
PICTURE_FILES = (
    "The files of the pictures that the {} by their SHA-256, in base64. Each is a PNG, WebP or JPEG in RGB, of exactly "
    "the frame's width and height; only a `style_picture` may have another shape."
)
FINGERPRINT = "16 hexadecimal digits. Replicas with the same fingerprint render the same bytes."


class RenderRequest(Wire):
    """One shard: a recipe, and the fractions to render, in this order."""

    recipe: Recipe = Field(description="What to render.")
    fractions: list[Fraction] = Field(
        min_length=1,
        max_length=256,
        description="Positions between start (0) and end (1), one for each frame.",
        examples=[[0.0, 0.25, 0.5, 0.75, 1.0]],
    )
    pictures: dict[str, str] = Field(default={}, description=PICTURE_FILES.format("request names,"), examples=[{}])
    extras: bool = Field(
        default=False,
        description="Whether the response has the files that belong to the recipe beside its frames, such as a depth "
        "map. Only for recipes of the kinds `into` and `apart`.",
    )
    sources: tuple[Sha256, ...] | None = Field(
        default=None,
        strict=False,
        max_length=256,
        description="Only for recipes of the kind `clip`: the picture of the clip for each fraction, by the SHA-256 of "
        "its file in `pictures`.",
        examples=[None],
    )

    @property
    def of_frame_size(self) -> frozenset[str]:
        """The SHA-256 of each picture that has exactly the frame's width and height."""
        return self.recipe.of_frame_size | frozenset(self.sources or ())

    @property
    def named(self) -> frozenset[str]:
        """The SHA-256 of each picture that the recipe or the request names."""
        return self.recipe.pictures | self.of_frame_size


class Truncated(Wire):
    """A warning: part of a prompt is beyond the text encoder's limit."""

    prompt: str = Field(description="`start`, `end` or `negative_prompt`.")
    truncated: str = Field(description="The words that had no effect on the picture.")
    detail: str = Field(description="The same as a sentence.")


class Head(Wire):
    """The first line of a render response."""

    model: str = Field(description="The loaded model.")
    revision: str = Field(description="The loaded revision of the model.")
    fingerprint: str = Field(description=FINGERPRINT)
    warnings: tuple[Truncated, ...] = Field(description="Prompts that were too long for the text encoder.")


class ExtraLine(Wire):
    """A file that belongs to the recipe beside its frames. Before the first frame of a render response."""

    extra: str = Field(pattern=r"^[a-z0-9-]{1,40}\.(png|json)$", description="The name of the file.")
    media_type: Literal["image/png", "application/json"] = Field(description="What it is.")
    data: str = Field(description="Its content in base64.")


class FrameLine(Wire):
    """One frame of a render response."""

    fraction: float = Field(description="The position between start (0) and end (1).")
    png: str = Field(description="The picture: a PNG in base64.")
    seconds: float = Field(description="Time on the device, in seconds.")
    marked: bool = Field(
        default=False, description="Whether the model's safety checker marked the picture. False without a checker."
    )


class ProblemLine(Wire):
    """The last line of a render response that ended early."""

    problem: dict[str, Any] = Field(description="A problem document (RFC 9457).")


class About(Wire):
    """Information about a model for people."""

    title: str = Field(default="", description="The model's name.")
    summary: str = Field(default="", description="What the model is, in a sentence or two.")
    license: str = Field(default="", description="The licence of the weights.")
    commercial: bool | None = Field(
        default=None, description="Whether the licence allows commercial use; null if that is not known."
    )
    examples: tuple[tuple[str, str], ...] = Field(
        default=(), strict=False, description="Pairs of prompts that make good walks."
    )
    limits: str = Field(default="", description="What the model cannot paint.")
    words: tuple[str, ...] = Field(
        default=(), strict=False, description="The only words that the model knows; empty if it has no such limit."
    )


class DeviceOptions(Wire):
    """How replicas use their device. Each option is off unless the card sets it."""

    compile: bool = Field(
        default=False, description="Compile the networks' blocks: faster frames, a slower start. Only on GPUs."
    )
    channels_last: bool = Field(
        default=False, description="Order tensors by pixels, then channels, for convolutions. Only on GPUs."
    )
    vae_slicing: bool = Field(default=False, description="Decode frame by frame, which needs less memory.")
    vae_tiling: bool = Field(
        default=False,
        description="Decode large frames in overlapping tiles, which needs less memory and changes pixels slightly.",
    )
    deep_cache: int = Field(
        default=1,
        ge=1,
        le=10,
        description="For UNets: after the first third of the denoising steps, compute the deep blocks in every so many "
        "steps only, and reuse their output in between. Faster, slightly other pictures. 1: compute all.",
    )
    offload: Literal["none", "text_encoder", "model", "spread"] = Field(
        default="none",
        description="For models that do not fit. `text_encoder`: the text encoders are in the computer's memory while "
        "they are not used. `model`: so is each network. `spread`: the networks are distributed over this GPU and all "
        "others of the machine.",
    )


def _is_none(value: object) -> bool:
    return value is None


class Style(Wire):
    """A style that recipes can name."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,99}$", description="What recipes call it.", examples=["woodcut"])
    title: str = Field(min_length=1, max_length=100, description="What people call it.", examples=["Woodcut"])
    prompt: str | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        exclude_if=_is_none,
        description="Of a diffusion model: the prompt that makes it. Recipes have this prompt and no name of a style.",
    )
    strength: float | None = Field(
        default=None, ge=0.1, le=1, exclude_if=_is_none, description="With a prompt: the strength that is usual."
    )


class Origin(Wire):
    """Weights beside those of the model: which, and in which version."""

    model: str = Field(description="An id on the hub with the path in it, or the name of a file or folder.")
    revision: str = Field(description="The commit on the hub, or the SHA-256 of the file or folder.")


class Adapter(Origin):
    """A LoRA, which has a weight, or a textual inversion, which has a token."""

    weight: float | None = Field(
        default=None, exclude_if=_is_none, description="How much of a LoRA is added.", examples=[0.8]
    )
    token: str | None = Field(
        default=None,
        exclude_if=_is_none,
        description="The word in a prompt that stands for a textual inversion.",
        examples=["<cat-toy>"],
    )


class ModelCard(Wire):
    """What a model renders with: its defaults and limits."""

    model: str = Field(
        description="The model's name: that of its recipe, its id on the hub, or that of its folder.",
        examples=["atelier"],
    )
    revision: str = Field(
        description="Identifies the weights: a commit on the hub, or the SHA-256 of the folder. With another VAE or "
        "adapters, a SHA-256 of all of them."
    )
    base_revision: str | None = Field(
        default=None,
        exclude_if=_is_none,
        description="Revision of the model itself, if another VAE or adapters are part of `revision`.",
    )
    vae: Origin | None = Field(
        default=None, exclude_if=_is_none, description="The VAE that replaces the model's own, if one does."
    )
    adapters: tuple[Adapter, ...] = Field(
        default=(),
        strict=False,
        exclude_if=lambda adapters: not adapters,
        description="LoRAs and textual inversions, if there are any.",
    )
    engine: Literal["diffusion", "parallax", "style", "instances"] = Field(
        default="diffusion",
        exclude_if=lambda engine: engine == "diffusion",
        description="What renders the model's frames. Cards of engines that are not `diffusion` have 1 step, no "
        "guidance, and a scheduler called `none`.",
    )
    styles: tuple[Style, ...] = Field(
        default=(),
        strict=False,
        exclude_if=lambda styles: not styles,
        description="The styles that pictures and clips can be restyled in, beside a prompt or a picture.",
    )
    micro_batch: int = Field(ge=1, le=64, description="Frames that the device renders at once.", examples=[5])
    width: Pixels = Field(description="Default width in pixels.", examples=[128])
    height: Pixels = Field(description="Default height in pixels.", examples=[128])
    size_multiple: int = Field(ge=1, description="Width and height are multiples of this, in pixels.", examples=[32])
    min_size: Pixels = Field(description="Smallest width and height in pixels.", examples=[64])
    max_size: Pixels = Field(description="Largest width and height in pixels.", examples=[256])
    num_inference_steps: Steps = Field(description="Default number of denoising steps.", examples=[12])
    max_steps: Steps = Field(description="Most denoising steps.", examples=[100])
    guidance_scale: Guidance = Field(description=f"Default. {GUIDANCE}", examples=[4.0])
    negative_prompt: str = Field(max_length=1000, description="Default negative prompt.", examples=[""])
    guidance_interval: GuidanceInterval | None = Field(
        default=None, description=f"For all recipes. {GUIDANCE_INTERVAL}", examples=[None]
    )
    scheduler: str = Field(description="Default scheduler.", examples=["UniPC"])
    schedulers: tuple[str, ...] = Field(
        min_length=1, strict=False, description="Schedulers that a recipe can name.", examples=[["UniPC", "Euler"]]
    )
    prompt_chunks: int = Field(
        default=1,
        ge=1,
        le=8,
        exclude_if=lambda chunks: chunks == 1,
        description="For Stable Diffusion, LCM and SDXL: how many times 75 tokens of a prompt are read.",
        examples=[1],
    )
    token_limit: int = Field(ge=1, description="Most tokens of a prompt, begin and end included.", examples=[32])
    device: DeviceOptions = Field(default=DeviceOptions(), description="How replicas use their device.")
    about: About = Field(default=About(), description="Information for people.")

    @model_validator(mode="after")
    def defaults_are_allowed(self) -> ModelCard:
        """Refuse a card whose defaults are outside its own limits: better at start than for each walk."""
        wrong = [*self.refused_sizes(self.width, self.height), *self.refused_settings(self)]
        if wrong:
            raise ValueError(f"the card's own defaults are not allowed by it: {wrong[0][0]} {wrong[0][1]}")
        return self

    def refused_sizes(self, width: int, height: int) -> Iterator[tuple[str, str]]:
        """(field, what is allowed) for each side, in pixels, that the card does not allow."""
        for side, pixels in (("width", width), ("height", height)):
            if not self.min_size <= pixels <= self.max_size or pixels % self.size_multiple:
                yield side, f"must be a multiple of {self.size_multiple} from {self.min_size} to {self.max_size} pixels"

    def refused_settings(
        self, wanted: BetweenRecipe | RestyleRecipe | ClipRecipe | ModelCard
    ) -> Iterator[tuple[str, str]]:
        """(field, what is allowed) for steps and scheduler that the card does not allow."""
        if (wanted.num_inference_steps or 1) > self.max_steps:
            yield "num_inference_steps", f"must be from 1 to {self.max_steps}"
        if wanted.scheduler is not None and wanted.scheduler not in self.schedulers:
            yield "scheduler", f"must be one of {', '.join(self.schedulers)}"


class ModelAnswer(Wire):
    """The response of GET /v1/model: the card, and what else decides the pixels of a recipe."""

    card: ModelCard = Field(description="The model card.")
    fingerprint: str = Field(description=FINGERPRINT, examples=["ac4fb3ce9f313e44"])
    made_of: dict[str, str | int] = Field(
        description="What the fingerprint is a hash of: weights, library versions, device, threads.",
        examples=[{"torch": "2.13.0+cpu", "device": "cpu", "dtype": "float32", "threads": 1}],
    )
    features: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="What a recipe may contain beyond the first release of this contract. `early_blend`: `blend` may "
        "be `early`. `pictures`: stops may be pictures. `into`, `restyle`, `clip`, `apart`: recipes may be of this "
        "kind. Models with the engine `diffusion` also render the kind `between`. Send a replica nothing else.",
        examples=[[EARLY_BLEND, PICTURES]],
    )
    batch_invariant: bool = Field(
        default=True,
        description="Whether a frame's bits were the same at each place in the batch at warm-up. If not, equal "
        "requests may differ in the last bits: see MOMALISA_PLACES.",
    )


class ModelsAnswer(Wire):
    """The response of GET /v1/models."""

    models: tuple[ModelAnswer, ...] = Field(min_length=1, description="What is loaded. Recipes name one of these.")
