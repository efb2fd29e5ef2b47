"""Types of a request's fields: texts and numbers as JSON has them, each with its limits in the OpenAPI document."""

from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

from momalisa_api.text import is_unicode

# What `_text_only` leaves of a prompt, as JSON Schema: no NUL.
WITHOUT_NUL: Final = r"^[^\u0000]*$"


def _numbers_only(value: object) -> object:
    """Refuse booleans: a JSON true is not the number one."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def text_only(value: str) -> str:
    """Refuse lone surrogates, which JSON allows and UTF-8 does not, and NUL, which PostgreSQL does not store."""
    if "\0" in value or not is_unicode(value):
        raise ValueError("must be Unicode text, without the character NUL or lone surrogates")
    return value


# Where an error in a body of a kind is, before the name of the field: no field has such a name.
KIND_TAG: Final = "kind "
UNKNOWN_KIND: Final = "walk_kind"
# The widest limits of the model contract: those of a model are in its card.
MAX_MODEL_CHARS: Final = 500
Prompt = Annotated[str, AfterValidator(text_only), Field(json_schema_extra={"pattern": WITHOUT_NUL})]
NumbersOnly: Final = BeforeValidator(_numbers_only)
Integer = Annotated[int, NumbersOnly]
# Limits come before the validator, and inside of unions with None: elsewhere they are missing in the OpenAPI document.
Positive = Annotated[int, Field(ge=1), NumbersOnly]
NotNegative = Annotated[int, Field(ge=0), NumbersOnly]

# The limits come first: after a validator, a violation would be told as one of a list.
ModelName = Annotated[
    str,
    Field(min_length=1, max_length=MAX_MODEL_CHARS),
    AfterValidator(text_only),
    Field(json_schema_extra={"pattern": WITHOUT_NUL}),
]
Strength = Annotated[float, Field(ge=0.1, le=1, allow_inf_nan=False), NumbersOnly]
# + 0.0 turns -0.0 into 0.0; otherwise the same request would be two walks.
Guidance = Annotated[
    float,
    Field(ge=0, le=50, allow_inf_nan=False),
    NumbersOnly,
    AfterValidator(lambda number: number + 0.0),
]
