"""The model card: what a deployment renders with."""

from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from momalisa_api.walks.kinds import DIFFUSION

StyleName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,99}$")]


class ModelKey(NamedTuple):
    """Identifies the weights that render a frame."""

    model: str
    revision: str


class About(BaseModel):
    """Information about a model for people. Cards that only differ here are compatible."""

    model_config = ConfigDict(frozen=True)

    title: str = Field("", description="The model's name.")
    summary: str = Field("", description="What the model is, in a sentence or two.")
    license: str = Field("", description="The licence of the weights.")
    commercial: bool | None = Field(
        None, description="Whether the licence allows commercial use; null if that is not known."
    )
    examples: tuple[tuple[str, str], ...] = Field((), description="Pairs of prompts that make good walks.")
    limits: str = Field("", description="What the model cannot paint.")
    words: tuple[str, ...] = Field(
        (), description="The only words that the model knows; empty if it has no such limit."
    )


class Style(BaseModel):
    """A style that a model can give to pictures: one of a style network, or a prompt for a diffusion model."""

    model_config = ConfigDict(frozen=True)

    name: StyleName = Field(description="The style's name, for `style` in a request.", examples=["stained-glass"])
    title: str = Field(description="The style in words, for people.", examples=["Stained glass"])
    prompt: str | None = Field(
        None, exclude_if=lambda prompt: prompt is None, description="The prompt that pictures are drawn by again."
    )
    strength: float | None = Field(
        None,
        ge=0.1,
        le=1,
        exclude_if=lambda strength: strength is None,
        description="How much is drawn again, 0.1 to 1.",
    )


def _is_none(value: object) -> bool:
    return value is None


class Origin(BaseModel):
    """Weights beside those of the model: which, and in which version."""

    model_config = ConfigDict(frozen=True)

    model: str = Field(description="An id on the hub with the path in it, or the name of a file or folder.")
    revision: str = Field(description="The commit on the hub, or the SHA-256 of the file or folder.")


class Adapter(Origin):
    """A LoRA, which has a weight, or a textual inversion, which has a token."""

    weight: float | None = Field(None, exclude_if=_is_none, description="How much of a LoRA is added.", examples=[0.8])
    token: str | None = Field(
        None,
        exclude_if=_is_none,
        description="The word in a prompt that stands for a textual inversion.",
        examples=["<cat-toy>"],
    )


class ModelCard(BaseModel):
    """A model and its limits and defaults. Unknown members are ignored: the contract only grows."""

    model_config = ConfigDict(frozen=True)

    model: str = Field(description="The model's name.", examples=["atelier"])
    revision: str = Field(
        description="Identifies the weights: a commit on the hub, or the SHA-256 of the folder. With another VAE or "
        "adapters, a SHA-256 of all of them."
    )
    base_revision: str | None = Field(
        None,
        exclude_if=_is_none,
        description="Revision of the model itself, if another VAE or adapters are part of `revision`.",
    )
    vae: Origin | None = Field(
        None, exclude_if=_is_none, description="The VAE that replaces the model's own, if one does."
    )
    adapters: tuple[Adapter, ...] = Field(
        (),
        exclude_if=lambda adapters: not adapters,
        description="LoRAs and textual inversions, if there are any.",
    )
    micro_batch: int = Field(ge=1, description="Frames that a replica renders at once.", examples=[5])
    width: int = Field(description="Default width in pixels.", examples=[128])
    height: int = Field(description="Default height in pixels.", examples=[128])
    size_multiple: int = Field(description="Width and height are multiples of this, in pixels.", examples=[32])
    min_size: int = Field(description="Smallest width and height in pixels.", examples=[64])
    max_size: int = Field(description="Largest width and height in pixels.", examples=[256])
    num_inference_steps: int = Field(description="Default number of denoising steps.", examples=[12])
    max_steps: int = Field(description="Most denoising steps.", examples=[100])
    guidance_scale: float = Field(
        description="Default guidance: how closely a frame follows its prompt. 1 or less: no guidance.", examples=[4.0]
    )
    guidance_interval: tuple[float, float] | None = Field(
        None,
        description="The part of the denoising steps with guidance: from and to, as shares of all steps, 0 to 1. "
        "Null: all steps.",
        examples=[None],
    )
    negative_prompt: str = Field(description="Default negative prompt.", examples=[""])
    scheduler: str = Field(description="Default scheduler.", examples=["UniPC"])
    schedulers: tuple[str, ...] = Field(description="Schedulers that a walk can use.", examples=[["UniPC", "Euler"]])
    prompt_chunks: int = Field(1, ge=1, description="How many times 75 tokens of a prompt are read.", examples=[1])
    token_limit: int = Field(description="Most tokens of a prompt, begin and end included.", examples=[32])
    engine: str = Field(
        DIFFUSION,
        exclude_if=lambda engine: engine == DIFFUSION,
        description="What renders frames with the model; absent: diffusion.",
        examples=["diffusion"],
    )
    styles: tuple[Style, ...] = Field(
        (),
        exclude_if=lambda styles: not styles,
        description="The styles that the model can give to pictures and clips, if there are any.",
    )
    about: About = Field(About(), description="Information for people.")

    @property
    def key(self) -> ModelKey:
        """Identifies the model's weights."""
        return ModelKey(self.model, self.revision)

    def agrees_with(self, other: "ModelCard") -> bool:
        """Whether two cards promise the same pictures. What people are told may differ, and so may named prompts."""
        told = {"about", "styles"}
        return self.model_dump(exclude=told) == other.model_dump(exclude=told)
