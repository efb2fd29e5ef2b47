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


Prompt = Annotated[str, AfterValidator(text_only), Field(json_schema_extra={"pattern": WITHOUT_NUL})]
NumbersOnly: Final = BeforeValidator(_numbers_only)
Integer = Annotated[int, NumbersOnly]
# Limits come before the validator, and inside of unions with None: elsewhere they are missing in the OpenAPI document.
Positive = Annotated[int, Field(ge=1), NumbersOnly]
NotNegative = Annotated[int, Field(ge=0), NumbersOnly]
