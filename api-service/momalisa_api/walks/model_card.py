"""The model card: what a deployment renders with."""

from pydantic import BaseModel, ConfigDict, Field


class About(BaseModel):
    """Information about a model for people. Cards that only differ here are compatible."""

    model_config = ConfigDict(frozen=True)

    title: str = ""
    summary: str = ""
    license: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    limits: str = ""
    words: tuple[str, ...] = Field(
        (), description="The only words that the model knows; empty if it has no such limit."
    )


class ModelCard(BaseModel):
    """A model and its limits and defaults. Unknown members are ignored: the contract only grows."""

    model_config = ConfigDict(frozen=True)

    model: str
    revision: str
    micro_batch: int = Field(ge=1)
    width: int
    height: int
    size_multiple: int
    min_size: int
    max_size: int
    num_inference_steps: int
    max_steps: int
    guidance_scale: float
    negative_prompt: str
    scheduler: str
    schedulers: tuple[str, ...]
    token_limit: int
    about: About = About()

    def agrees_with(self, other: "ModelCard") -> bool:
        """Whether two cards promise the same pictures; their `about` may differ."""
        return self.model_dump(exclude={"about"}) == other.model_dump(exclude={"about"})
